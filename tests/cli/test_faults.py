"""A whole `llm-serve` in trouble: told to stop while it works, and with Ray dead under it."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest

from llm_serve.errors import Conflict, NotReady
from tests.cli.files import write
from tests.cli.processes import Server, environment
from tests.support.client import CHAT, Api, check, refused, user
from tests.support.inprocess import echo
from tests.support.streaming import live
from tests.support.waiting import until

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]
Start = Callable[..., Server]
MODELS = [
    echo("echo/slow", token_s=0.05, preload=True, defaults={"max_tokens": 8192}),
    echo("echo/cold", load_s=600.0),
]
LONG = "word " * 100
ENDLESS = "word " * 8000


@pytest.fixture
def server(start: Start, port: int, tmp_path: Path) -> Server:
    file = write(tmp_path / "serve.yaml", port, *MODELS, server={"drain_timeout_s": 20})
    server = start("--config", file)
    server.until("Ctrl-C stops")
    return server


@pytest.fixture
def api(server: Server, port: int) -> Iterator[Api]:
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        yield Api(client)


def _held(api: Api, answers: list[httpx.Response]) -> threading.Thread:
    """A client that waits for the model that never comes up."""
    body = {"model": "echo/cold", "messages": user("hello")}
    wait = {"prefer": "wait=300"}
    thread = threading.Thread(
        target=lambda: answers.append(check(api.client.post(CHAT, json=body, headers=wait)))
    )
    thread.start()
    return thread


def test_sigterm_lets_running_work_finish_and_refuses_the_rest(server: Server, api: Api) -> None:
    answers: list[httpx.Response] = []
    with live(api, "echo/slow", LONG) as stream:
        stream.read(1)
        held = _held(api, answers)
        until(lambda: api.health()["queue_depth"] == 1, "the client is held")
        server.send(signal.SIGTERM)
        until(lambda: api.health()["status"] == "draining", "it drains")
        refused(api.chat(model="echo/slow"), Conflict)
        refused(api.chat(model="echo/cold"), Conflict)
        held.join(10)
        refused(answers[0], Conflict)
        stream.read()
    assert stream.text == LONG
    assert stream.done
    assert server.wait(30) == 0
    assert server.lines[-1] == "Stopped."
    assert server.left(1) == []
    assert "Traceback" not in server.output


def test_what_outlasts_the_drain_is_told_so(start: Start, port: int, tmp_path: Path) -> None:
    config = {"drain_timeout_s": 1}
    server = start("--config", write(tmp_path / "serve.yaml", port, *MODELS, server=config))
    server.until("Ctrl-C stops")
    with (
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
        live(Api(client), "echo/slow", ENDLESS) as stream,
    ):
        stream.read(1)
        server.send(signal.SIGTERM)
        stream.read()
    assert stream.error is not None
    assert stream.error["code"] == "engine_died"
    assert server.wait(30) == 0
    assert server.left(1) == []


def test_the_second_signal_ends_at_once(server: Server, api: Api) -> None:
    with live(api, "echo/slow", ENDLESS) as stream:
        stream.read(1)
        server.send(signal.SIGINT)
        server.until("Waiting for 1 running request")
        began = time.monotonic()
        server.send(signal.SIGINT)
        assert server.wait(15) == 1
        assert time.monotonic() - began < 10
        with suppress(httpx.TransportError):  # cut, or told by an ingress that outlived the model
            stream.read()
        assert not stream.done
    assert server.left(5) == []


@pytest.mark.parametrize("who", ["gcs_server", "raylet"])
def test_ray_is_started_anew_when_it_has_died(server: Server, api: Api, who: str) -> None:
    """Nobody is refused a connection, and every answer is ours."""
    (victim,) = [p for p in server.note() if p.is_running() and p.name() == who]
    victim.kill()
    seen = []

    def served() -> bool:
        answer = api.post(CHAT, {"model": "echo/slow", "messages": user("x"), "max_tokens": 1})
        seen.append(answer.status_code)
        if answer.status_code == 503:
            assert answer.json()["error"]["code"] == NotReady.code
            assert answer.headers["retry-after"]
        return answer.status_code == 200

    until(lambda: not served(), "it is noticed", seconds=30)
    until(served, "it serves again", seconds=120, every=0.2)
    assert set(seen) <= {200, 202, 502, 503}
    assert f"Ray has died: its {who} has ended" in server.until("Ray has died")
    server.until("Serving again after")
    server.send(signal.SIGTERM)
    assert server.wait(30) == 0
    assert [p for p in server.left(5) if p.status() != psutil.STATUS_ZOMBIE] == []


def test_ray_is_started_anew_when_its_controller_is_gone_for_good(
    server: Server, api: Api, tmp_path: Path
) -> None:
    """Without it ready models answer, and nothing is ever loaded again."""
    (raylet,) = [p for p in server.note() if p.is_running() and p.name() == "raylet"]
    (address,) = [a.partition("=")[2] for a in raylet.cmdline() if a.startswith("--gcs-address=")]
    command = [sys.executable, "-c", _KILL_FOR_GOOD, address]
    driver = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "token"}
    subprocess.run(command, env={**environment(tmp_path), **driver}, check=True, timeout=60)
    assert "its Serve controller does not start any more" in server.until("Ray has died")
    server.until("Serving again after")
    body = {"model": "echo/slow", "messages": user("here")}
    answer = api.post(CHAT, body, headers={"prefer": "wait=60"})
    assert answer.json()["choices"][0]["message"]["content"] == "here"


_KILL_FOR_GOOD = """
import sys, ray
from contextlib import suppress
ray.init(sys.argv[1], namespace="serve", log_to_driver=False)
ray.kill(ray.get_actor("SERVE_CONTROLLER_ACTOR"), no_restart=True)
"""
