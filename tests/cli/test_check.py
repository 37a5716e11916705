"""`llm-serve check`: the line, the fault and the remedy."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from deployments.machine.config_file import read_serve_file
from deployments.schema import deploy_schema
from llm_serve.config import DEFAULT_HOST, DEFAULT_PORT, default_config
from llm_serve.config.yaml_file import BadFile
from tests.cli.processes import ROOT, Run

# Importing ray.serve warns of its own use of pydantic.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

GOOD = """\
http_options:
  host: 127.0.0.1
  port: 11424
applications:
  - name: llm-serve
    route_prefix: /
    import_path: deployments.graph:build
    args:
      models:
        - id: echo-a
          backend: echo
          max_queued: 4
        - id: echo-b
          backend: echo
          engine:
            token_s: 0.1
      server:
        max_body_mb: 2
    autoscaling_policy: {policy_function: deployments.autoscaling:ResidencyPolicy}
"""

BAD = [
    (
        "max_queued: 4",
        "max_queud: 4",
        12,
        "unknown key 'max_queud' in models[0]; did you mean",
    ),
    (
        "token_s: 0.1",
        "tokens: 1",
        16,
        "unknown key 'tokens' in models[1].engine; did you",
    ),
    ("token_s: 0.1", "token_s: -1", 16, "models[1].engine.token_s: input should be greater"),
    ("token_s: 0.1", "dtype: auto", 16, "unknown key 'dtype' in models[1].engine"),
    ("max_queued: 4", "max_queued: many", 12, "models[0].max_queued: input should be a valid int"),
    ("max_queued: 4", "max_queued: -1", 12, "(Answers that wait, over all ingresses; past it 429)"),
    ("backend: echo\n          max", "backend: vlm\n          max", 11, "'tensorrt_llm' or 'echo'"),
    ("id: echo-b", "id: echo-a", 13, "the id 'echo-a' stands twice"),
    ("id: echo-b", "id: ''", 13, "models[1].id: "),
    ("- id: echo-b\n          backend", "- backend", 13, "models[1].id is missing; add it"),
    ("max_body_mb: 2", "max_body: 2", 18, "did you mean 'max_body_mb'?"),
    ("max_body_mb: 2", "api_key_file: nowhere", 18, "api_key_file cannot be read"),
    ("max_body_mb: 2", "api_key_file: ~nobody-here/keys", 18, "api_key_file cannot be read: there"),
    ("max_body_mb: 2", 'api_key_file: "a\\0b"', 18, "api_key_file cannot be read: there"),
    ("{policy_function: deployments.autoscaling:ResidencyPolicy}", "some.string", 19, "dictionary"),
    ("      server:", "      sever:", 17, "unknown key 'sever'; did you mean 'server'?"),
    ("http_options:", "http_option:", 1, "did you mean 'http_options'?"),
    (
        "  port: 11424",
        "  prot: 11424",
        3,
        "'prot' in http_options; did you mean 'port'?",
    ),
    ("  port: 11424", "  port: eleven", 3, "http_options.port: input should be a valid integer"),
    ("port: 11424", "port: 70000", 3, "http_options.port: must be from 1 to 65535, not 70000"),
    ("route_prefix", "rout_prefix", 6, "in applications[0]; did you mean 'route_prefix'?"),
    ("graph:build", "grahp:build", 1, "no application has `import_path: deployments.graph:build`"),
    ("deployments.autoscaling:Res", "my.own:Res", 7, "nothing would ever be loaded; add `autosc"),
    ("http_options:", "models: []\nhttp_options:", 1, "put it below `applications`, `args`"),
    ("max_queued: 4", "backend: echo", 12, "the key 'backend' stands in line 11 already"),
    ("max_queued: 4", "max_queued: [4", 13, "is no YAML from here on"),
    ("          max_queued: 4", "\tmax_queued: 4", 12, "indent with spaces"),
]


@pytest.mark.parametrize(("old", "new", "line", "says"), BAD, ids=[b[1].strip() for b in BAD])
def test_the_line_and_the_remedy(tmp_path: Path, old: str, new: str, line: int, says: str) -> None:
    assert old in GOOD
    file = tmp_path / "bad.yaml"
    file.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(BadFile) as caught:
        read_serve_file(file)
    found = [p for p in caught.value.problems if says in p.message]
    assert [p.line for p in found] == [line], str(caught.value)


def test_every_problem_is_named_at_once(tmp_path: Path, run: Run) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(GOOD.replace("max_queued", "max_queud").replace("port: 1", "prot: 1"))
    done = run("check", str(file))
    assert done.returncode == 2
    first, second = done.stderr.splitlines()
    assert first.startswith(f"{file}:3: unknown key 'prot'")
    assert second.startswith(f"{file}:12: unknown key 'max_queud'")


def test_one_wrong_model_is_one_problem(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    only = re.sub(r" +- id: echo-b\n +backend: echo\n +engine:\n +token_s: 0.1\n", "", GOOD)
    file.write_text(only.replace("max_queued: 4", "num_gpus: 1.5"))
    with pytest.raises(BadFile) as caught:
        read_serve_file(file)
    (problem,) = caught.value.problems
    assert (problem.line, problem.message[:9]) == (12, "num_gpus:")


def test_a_good_file_is_one_line(tmp_path: Path, run: Run) -> None:
    file = tmp_path / "good.yaml"
    file.write_text(GOOD)
    done = run("check", str(file))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{file} is fine: serves echo-a, echo-b on 127.0.0.1:11424.\n"


@pytest.mark.parametrize("text", ["", "[]", "just words"])
def test_a_file_of_something_else(tmp_path: Path, text: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(BadFile, match=r"start from serve_config\.yaml"):
        read_serve_file(file)


def test_the_shipped_file_is_the_default_configuration() -> None:
    file = ROOT / "serve_config.yaml"
    found = read_serve_file(file)
    assert found.config == default_config()
    shipped = yaml.safe_load(file.read_text())
    assert shipped == deploy_schema(default_config(), DEFAULT_HOST, DEFAULT_PORT)


def test_what_a_file_says_to_ray_survives(tmp_path: Path) -> None:
    file = tmp_path / "serve.yaml"
    file.write_text("logging_config:\n  encoding: JSON\n" + GOOD)
    found = read_serve_file(file)
    schema = deploy_schema(found.config, "127.0.0.1", 9000, found.whole)
    assert schema["logging_config"] == {"encoding": "JSON"}
    assert schema["http_options"]["port"] == 9000
    assert schema["applications"][0]["name"] == "llm-serve"
