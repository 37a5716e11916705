"""An engine that is not installed is told of before Ray is started; a model that embeds is greeted
as one."""

from __future__ import annotations

import json
import shlex
import sys
from importlib.util import find_spec
from typing import Any

import pytest
import typer

from deployments.machine.lifetime import curl_line
from llm_serve.backends import installed
from llm_serve.backends.installed import NEEDED, REMEDY, check_installed
from llm_serve.cli.main import _require_engines
from llm_serve.cli.terminal import Terminal
from llm_serve.config import Config, ModelConfig
from llm_serve.config.engines import ENGINES
from llm_serve.errors import LoadFailed
from tests.cli.processes import Run
from tests.support.tensorrt import REAL

_HEAVY = ("ray", "torch", "transformers", "vllm", "tensorrt_llm")


@pytest.mark.skipif(REAL, reason="TensorRT-LLM is installed")
def test_the_command_ends_with_the_remedy_and_starts_nothing(run: Run) -> None:
    done = run("--backend", "tensorrt_llm", "--model", "org/name")
    assert done.returncode == 1
    said = " ".join(done.stderr.split())
    assert said.startswith("Error: org/name: TensorRT-LLM is not installed")
    assert "pip install" in said
    assert done.stdout == ""


@pytest.mark.parametrize("backend", sorted(set(ENGINES) - {"echo"}))
def test_every_engine_has_its_remedy(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = ModelConfig.model_validate({"id": "m", "backend": backend})
    for missing in NEEDED[backend]:
        there = set(NEEDED[backend]) - {missing}
        monkeypatch.setattr(installed, "_is_there", there.__contains__)
        with pytest.raises(LoadFailed) as caught:
            check_installed(model)
        assert caught.value.detail == f"m: {REMEDY[backend]}"
        elsewhere = model.model_copy(update={"env": {"PYTHONPATH": "/opt/engine"}})
        check_installed(elsewhere)
    monkeypatch.setattr(installed, "_is_there", set(NEEDED[backend]).__contains__)
    check_installed(model)


def test_nothing_is_imported_to_know_it() -> None:
    before = set(sys.modules)
    for package in _HEAVY:
        assert installed._is_there(package) == (find_spec(package) is not None)
    assert not {name for name in set(sys.modules) - before if name.partition(".")[0] in _HEAVY}
    assert not installed._is_there("no_such_engine")


@pytest.mark.parametrize(
    ("fields", "ends"), [({}, False), ({"preload": True}, True), ({"pin": True}, True)]
)
def test_a_model_that_is_loaded_later_is_warned_of(
    fields: dict[str, bool],
    ends: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(installed, "_is_there", lambda package: False)
    models = [{"id": "e", "backend": "echo"}, {"id": "v", "backend": "vllm", **fields}]
    config = Config.model_validate({"models": models})
    if ends:
        with pytest.raises(typer.Exit) as exit_:
            _require_engines(config, Terminal())
        assert exit_.value.exit_code == 1
    else:
        _require_engines(config, Terminal())
    said = " ".join(capsys.readouterr().err.split())
    assert said.startswith(f"{'Error' if ends else 'Warning'}: v: vLLM is not installed")


@pytest.mark.parametrize(
    ("kind", "path", "member"),
    [
        (None, "/v1/chat/completions", "messages"),
        ("text", "/v1/chat/completions", "messages"),
        ("embedding", "/v1/embeddings", "input"),
    ],
)
def test_the_line_to_try_is_for_the_kind_of_model(kind: Any, path: str, member: str) -> None:
    words = shlex.split(curl_line("http://127.0.0.1:1", None, kind))
    assert f"http://127.0.0.1:1{path}" in words
    assert set(json.loads(words[words.index("-d") + 1])) == {member}
