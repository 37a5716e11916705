"""Several models from a file, and the verbs that operate them, with a Ray of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest

from llm_serve.config import DEFAULT_SOURCE
from tests.cli.files import write
from tests.cli.processes import Run, Server
from tests.cli.sockets import listening, open_to_others
from tests.support.inprocess import echo
from tests.support.waiting import until

Start = Callable[..., Server]
ONE = {"max_resident": 1, "min_residency_s": 0}


def ask(port: int, model: str) -> str:
    """What the model answers, however long its turn takes."""
    answer = httpx.post(
        f"http://127.0.0.1:{port}/v1/chat/completions",
        json={"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4},
        headers={"Prefer": "wait=120"},
        timeout=130,
        trust_env=False,
    )
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["message"]["content"])


@pytest.mark.ray
def test_models_of_a_file_are_switched_by_the_verbs(
    start: Start, run: Run, port: int, tmp_path: Path
) -> None:
    models = [echo("echo/a", preload=True), echo("echo/b", load_s=0.5), echo("c", load_error="No.")]
    file = write(tmp_path / "serve.yaml", port, *models, residency=ONE)
    server = start("--config", file)
    server.until("Ctrl-C stops")
    assert ask(port, "echo/a") == "hi"
    assert open_to_others(listening(server.note())) == []

    url = ("--url", f"http://127.0.0.1:{port}")
    loaded = run("load", "echo/b", *url)
    assert loaded.returncode == 0, loaded.stderr
    assert "Loading echo/b" in loaded.stdout
    lines = [line.split() for line in run("ps", *url).stdout.splitlines()]
    assert [line[:2] for line in lines[1:]] == [
        ["echo/a", "unloaded"],
        ["echo/b", "ready"],
        ["c", "unloaded"],
    ]
    assert ask(port, "echo/b") == "hi"
    assert run("load", "c", *url).stderr == "Error: c could not be loaded: No.\n"
    assert "echo/b" in run("unload", "echo/b", *url).stdout
    until(lambda: "echo/b  echo     unloaded" in run("models", *url).stdout, "echo/b is gone")


@pytest.mark.model
def test_a_switch_takes_the_warm_worker_which_opens_no_port_to_others(
    start: Start, port: int, tmp_path: Path
) -> None:
    models = [{"id": model_id, "source": DEFAULT_SOURCE} for model_id in ("a", "b")]
    models[0]["preload"] = True
    server = start("--config", write(tmp_path / "serve.yaml", port, *models, residency=ONE))
    server.until("Ctrl-C stops", timeout_s=200)

    def warm() -> psutil.Process | None:
        idle = [p for p in server.note() if p.is_running() and "IDLE" in "".join(p.cmdline())]
        return next((p for p in idle if any("libtorch" in m.path for m in p.memory_maps())), None)

    worker = until(warm, "a worker has torch imported", seconds=60)
    assert ask(port, "b").strip()
    assert "Model.b" in worker.cmdline()[0]
    assert open_to_others(listening(server.note())) == []
    assert server.process.is_running()
