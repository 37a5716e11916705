"""Every example of the README is run against the real model, or checked as far as it can be."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import tomllib
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest
import typer
import yaml

from deployments.machine.config_file import read_serve_file
from llm_serve.backends import check_engine
from llm_serve.cli.main import app
from llm_serve.config import DEFAULT_MODEL, Config
from llm_serve.status import Loading, ModelStatus
from tests.cli.files import write
from tests.cli.processes import ROOT, Server
from tests.docs.readme import FILE, Block, blocks
from tests.support import guide
from tests.support.inprocess import echo
from tests.support.tensorrt import importable

CURL = "curl "
SHELL = blocks("bash")
WITH_CURL = [block for block in SHELL if CURL in block.text]
_ENDLESS = "/v1/events"
_GAVE_UP = 28
"""curl's exit code after --max-time."""

# Importing ray.serve warns of its own use of pydantic.
quiet = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def test_every_block_is_of_a_kind_that_is_checked() -> None:
    known = blocks("bash", "python", "yaml", "json", "text")
    assert len(known) == FILE.read_text().count("```") // 2
    for block in SHELL:
        assert (CURL in block.text) == all(c.startswith(CURL) for c in block.commands())


@pytest.mark.model
@pytest.mark.parametrize("block", WITH_CURL, ids=str)
def test_curl(block: Block, real_url: str) -> None:
    for command in block.commands():
        endless = _ENDLESS in command
        limited = command.replace(CURL, "curl --max-time 3 ") if endless else command
        done = subprocess.run(
            ["bash", "-c", limited.replace(guide.ADDRESS, real_url)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == (_GAVE_UP if endless else 0), done.stderr
        if done.stdout.startswith("data: "):
            frames = re.findall(r"^data: (.*)$", done.stdout, re.MULTILINE)
            assert (frames[-1] == "[DONE]") != endless
        else:
            assert "error" not in json.loads(done.stdout)


@pytest.mark.model
@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_python(block: Block, real_url: str) -> None:
    assert guide.run(block.text, real_url, DEFAULT_MODEL).strip()


@pytest.mark.parametrize("block", [b for b in SHELL if b not in WITH_CURL], ids=str)
def test_commands_are_ones_that_there_are(block: Block) -> None:
    for command in block.commands():
        words = shlex.split(command, comments=True)
        match words:
            case ["llm-serve", *arguments]:
                check_usage(arguments)
            case ["make", target]:
                assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
            case ["pip", "install", what]:
                extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
                name, _, extra = what.removesuffix("]").partition("[")
                assert name == extras["name"]
                assert extra in extras["optional-dependencies"]
            case [*settings, "claude"]:  # driven by tests/clients
                given = dict(setting.split("=", 1) for setting in settings)
                assert given["ANTHROPIC_BASE_URL"] == guide.ADDRESS
                names = {"ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY", "ANTHROPIC_MODEL"}
                assert given.keys() == names
            case ["python", "-m", "pytest", "-m", mark]:
                assert f'"{mark}: ' in (ROOT / "pyproject.toml").read_text()
            case ["python", "-m", module, *options]:
                found = find_spec(module)
                assert found is not None
                assert found.origin is not None
                source = Path(found.origin).read_text()
                assert all(f'"{option}"' in source for option in options)
            case ["python", file] | ["serve", "run", file]:
                assert (ROOT / file).is_file()
            case ["set", "-a;", ".", "deployments/serve.env;", "set", "+a"]:
                shown = f"{command}\nprintenv RAY_SERVE_ENABLE_HA_PROXY"
                done = subprocess.run(
                    ["bash", "-uc", shown], cwd=ROOT, capture_output=True, text=True, check=True
                )
                assert done.stdout == "1\n"
            case _:
                pytest.fail(f"README.md:{block.line}: nobody checks {command!r}")


def check_usage(arguments: list[str]) -> None:
    """Parses the line as `llm-serve` does, and runs nothing. Raises UsageError."""
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    arguments = [argument for argument in arguments if argument != "--help"]
    with group.make_context("llm-serve", list(arguments)) as context:
        rest = [*context._protected_args, *context.args]
        if rest:
            name, command, more = group.resolve_command(context, rest)
            assert command is not None
            command.make_context(name, more, parent=context).close()


@quiet
@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_configurations_are_sound(block: Block, tmp_path: Path) -> None:
    if block.text.startswith("models:"):  # a part of the arguments
        config = Config.model_validate(yaml.safe_load(block.text))
    else:
        file = tmp_path / "serve.yaml"
        file.write_text(block.text)
        config = read_serve_file(file).config
    for model in config.models:
        if model.backend == "tensorrt_llm":
            importable()
        if model.backend != "vllm" or find_spec("vllm") is not None:
            check_engine(model)


@pytest.mark.ray
def test_the_models_of_the_example_take_turns(
    start: Callable[..., Server], port: int, tmp_path: Path
) -> None:
    """The example as it stands, but for the engines, which are echo here."""
    (block,) = [block for block in blocks("yaml") if "applications:" in block.text]
    args = yaml.safe_load(block.text)["applications"][0]["args"]
    for model in args["models"]:
        model.update(echo(model["id"]))
        model.pop("source", None)
    config = Config.model_validate(
        {**args, "residency": {**args["residency"], "min_residency_s": 0}}
    )
    sections = config.model_dump(exclude={"models"}, exclude_unset=True)
    server = start("--config", write(tmp_path / "serve.yaml", port, *args["models"], **sections))
    server.until("Ctrl-C stops")
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as client:
        for model in [m.id for m in config.models] * 2:
            body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
            assert client.post("/v1/chat/completions", json=body).status_code == 200
        states = [m["status"] for m in client.get("/v1/models").json()["data"]]
        assert states[0] == "ready"
        assert states.count("ready") <= 2
        accepted = client.post(
            "/v1/chat/completions",
            json={"model": config.models[states.index("unloaded")].id, **body},
            headers={"Prefer": "respond-async"},
        )
        if accepted.status_code == 202:
            (shown,) = blocks("json")
            assert set(accepted.json()) == set(json.loads(shown.text))


def test_the_202_and_the_comment_are_what_we_send() -> None:
    (shown,) = blocks("json")
    body = json.loads(shown.text)
    model = ModelStatus(body["model"], "loading", position=0, stage="weights", progress=0.4)
    loading = Loading(model, body["current_model"])
    assert body == loading.body()
    later = replace(model, progress=0.43, eta_s=12.0)
    comment = Loading(later).comment().decode().strip()
    assert comment in FILE.read_text()


def test_the_requests_are_the_guides() -> None:
    """Word for word but for the model: it is the one that needs no account."""
    mine = FILE.read_text()
    for example in guide.EXAMPLES:
        if example not in (guide.CURL_MODELS, guide.CURL_HEALTH):
            assert f"\n{example.replace(guide.MODEL, DEFAULT_MODEL)}```\n" in mine
    text = guide.text()
    if text is None:
        pytest.skip("the guide is not here; LLM_SERVE_TEST_DATA names the folder beside it")
    for example in guide.EXAMPLES:
        assert example in text
