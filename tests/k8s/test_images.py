"""The Dockerfiles, as far as they can be read: no container engine builds them here."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import llm_serve
from llm_serve.config import DEFAULT_MODEL
from tests.k8s.dockerfile import Stage, ignored, stages
from tests.k8s.operator_rules import ray_pin
from tests.k8s.rendered import K8S, ROOT

IMAGES = {"cpu": "transformers", "cuda": "vllm"}
"""Each image and the extra of pyproject.toml that it has."""
MINOR = re.compile(r"python:(3\.\d+)\.\d+-slim-bookworm")


def text(name: str) -> str:
    return (K8S / "images" / f"{name}.Dockerfile").read_text()


@pytest.fixture(params=IMAGES)
def image(request: pytest.FixtureRequest) -> tuple[str, Stage, Stage]:
    """Its name, the stage that builds, and the stage that is the image."""
    build, final = stages(text(request.param))
    return request.param, build, final


def problems(name: str, build: Stage, final: Stage) -> list[str]:
    """What is wrong with an image."""
    found = []
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    version = MINOR.fullmatch(build.image)
    if version is None or final.image != build.image:
        found.append("the base is not one slim Python, to its last digit")
    elif version[1] not in ("3.11", "3.12"):
        found.append(f"Python {version[1]} is not of requires-python {project['requires-python']}")
    if build.of("ARG") != [f"RAY_VERSION={ray_pin()}"]:
        found.append(f"Ray is not {ray_pin()}, as in pyproject.toml")
    installs = " ".join(build.of("RUN"))
    if f"'{IMAGES[name]}'" not in installs or "p['dependencies']" not in installs:
        found.append("what is installed does not come from pyproject.toml")
    known = ("--requirement requirements.txt", "--no-deps .")
    lines = [line.strip() for line in re.findall(r"pip install ([^&|;]*)", installs)]
    found += [f"pip install {line}: not from pyproject.toml" for line in lines if line not in known]
    if final.of("USER") != ["1000:1000"] or final.steps[-1][0] != "CMD":
        found.append("it does not end as the user of the pods")
    packages = " ".join(final.of("RUN"))
    found += [f"without {tool}" for tool in ("bash", "wget") if f" {tool} " not in packages]
    environment = " ".join(final.of("ENV"))
    if "PATH=/opt/llm-serve/bin:$PATH" not in environment:
        found.append("KubeRay does not find `ray` on the path")
    if "pip install" in packages or "llm-serve pull" in packages:
        found.append("the last stage fetches")
    for stage in (build, final):
        for copied in stage.of("COPY"):
            words = copied.split()
            found += [
                f"{source} is not in the context"
                for source in words[:-1]
                if not words[0].startswith("--from=")
                and (ignored(source) or not (ROOT / source).exists())
            ]
    return found


def test_each_image_is_sound(image: tuple[str, Stage, Stage]) -> None:
    assert problems(*image) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("3.11.13-slim-bookworm", "latest", "the base is not one slim Python"),
        ("3.11.13-slim", "3.10.13-slim", "Python 3.10 is not of requires-python"),
        (f"RAY_VERSION={ray_pin()}", "RAY_VERSION=2.59.0", "as in pyproject.toml"),
        ("['optional-dependencies']['transformers']", "['name']", "does not come from"),
        ("--no-deps .", "--no-deps . torch", "not from pyproject.toml"),
        ("USER 1000:1000", "USER root", "as the user of the pods"),
        ("USER 1000:1000\n", "", "as the user of the pods"),
        ("bash wget", "bash", "without wget"),
        ("ENV PATH=/opt/llm-serve/bin:$PATH \\\n    PYTHON", "ENV PYTHON", "does not find `ray`"),
        ("WORKDIR /tmp", "RUN llm-serve pull x", "the last stage fetches"),
        ("COPY llm_serve llm_serve", "COPY tests tests", "tests is not in the context"),
    ],
)
def test_a_fault_is_found(old: str, new: str, said: str) -> None:
    before = text("cpu")
    assert old in before
    assert said in "\n".join(problems("cpu", *stages(before.replace(old, new))))


def test_an_instruction_that_is_none_is_found() -> None:
    with pytest.raises(ValueError, match="COPPY"):
        stages(text("cpu").replace("COPY pyproject", "COPPY pyproject"))


def test_the_model_is_baked_in_where_the_pods_look_for_it() -> None:
    build, _ = stages(text("cpu"))
    (pull,) = (run for run in build.of("RUN") if "llm-serve pull" in run)
    assert shlex.split(pull) == [
        *("LLM_SERVE_CACHE=/opt/llm-serve/cache", "llm-serve", "pull", DEFAULT_MODEL),
        *("--config", "serve_config.yaml"),
    ]
    (step, _) = yaml.safe_load((K8S / "overlays/cpu/baked-model.yaml").read_text())
    assert "/opt/llm-serve/cache" in step["value"][0]["command"]


def test_the_tag_that_the_comment_builds_is_the_one_that_is_deployed() -> None:
    for overlay, name in {"cpu": "cpu", "gpu": "cuda"}.items():
        file = yaml.safe_load((K8S / "overlays" / overlay / "kustomization.yaml").read_text())
        (entry,) = file["images"]
        assert entry["newTag"] == f"{llm_serve.__version__}-ray{ray_pin()}"
        assert f"-t {entry['newName']}:{entry['newTag']} ." in text(name)
        assert f"-f k8s/images/{name}.Dockerfile " in text(name)


def test_what_is_private_stays_out_of_the_context() -> None:
    kept = ("llm_serve/config/tree.py", "deployments/serve.env", "pyproject.toml")
    assert [path for path in kept if ignored(path)] == []
    out = (".git/config", ".venv/bin/python", "tests/conftest.py", "keys", "shared/data/x")
    assert [path for path in out if not ignored(path)] == []
    assert ignored("llm_serve/__pycache__/errors.pyc")


def test_the_requirements_are_those_of_the_project(
    image: tuple[str, Stage, Stage], tmp_path: Path
) -> None:
    """The very line of the Dockerfile is run."""
    name, build, _ = image
    (line,) = (run for run in build.of("RUN") if "tomllib" in run)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    command = line.partition(" && ")[0]
    subprocess.run(["sh", "-c", command], cwd=tmp_path, env={"PATH": path}, check=True)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"][IMAGES[name]]]
    assert (tmp_path / "requirements.txt").read_text().splitlines() == wanted
