"""The supervisor over a child that says what Ray's process says: what it watches, how often it
starts anew, and what it says. On Ray itself: tests/cli/test_faults.py."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import psutil
import pytest

from deployments.machine import supervisor as module
from deployments.machine.launch import Order, StartFailed
from deployments.machine.supervisor import Broken, Supervisor
from llm_serve.config import Config
from llm_serve.host.processes import lives
from tests.support.inprocess import echo
from tests.support.waiting import until

pytestmark = pytest.mark.long

CHILD = """
import http.server, json, subprocess, sys, threading
from deployments.machine.launch import Order
order = Order.model_validate_json(sys.stdin.readline())

class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps(HEALTH).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass

HEALTH = {"status": "ok", "running": 0, "queue_depth": 0}
http.server.HTTPServer.allow_reuse_address = True
server = http.server.HTTPServer((order.host, order.port), Answers)
threading.Thread(target=server.serve_forever, daemon=True).start()
gcs = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
print(json.dumps({"event": "ray", "logs": "/logs", "dashboard": None, "token": None,
                  "vital": {"gcs_server": gcs.pid}}), flush=True)
for line in sys.stdin:
    print(json.dumps({"event": "draining"}), flush=True)
gcs.kill()
"""
FAILS = """
import json, sys
sys.stdin.readline()
print(json.dumps({"event": "failed", "reason": "The weights are cursed."}), flush=True)
"""
DIES = 'raise SystemExit("no such library")'


@pytest.fixture
def order(tmp_path: Path, port: int) -> Order:
    config = Config.model_validate({"models": [echo("echo/a")]})
    return Order(config=config, port=port, folder=tmp_path, door=None)


@pytest.fixture
def ray(order: Order) -> Iterator[Supervisor]:
    supervisor = _over(order, CHILD)
    yield supervisor
    _stopping.set()
    supervisor.stop()
    until(lambda: not _watching(), "nobody watches any more")
    _stopping.clear()
    assert not [p for p in psutil.Process().children(recursive=True) if lives(p)]


def _over(order: Order, script: str) -> Supervisor:
    supervisor = Supervisor(order, None)
    supervisor.command = [sys.executable, "-c", textwrap.dedent(script)]
    return supervisor


def _watched(
    ray: Supervisor, said: list[str] | None = None
) -> tuple[threading.Thread, list[str], list[BaseException]]:
    said = [] if said is None else said
    ended: list[BaseException] = []

    def say(line: str) -> None:
        if _stopping.is_set():
            raise SystemExit
        said.append(line)

    def watch() -> None:
        try:
            ray.watch(say)
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=watch, name="watch", daemon=True)
    thread.start()
    return thread, said, ended


_stopping = threading.Event()


def _watching() -> bool:
    return any(thread.name == "watch" for thread in threading.enumerate())


def _vital(ray: Supervisor) -> psutil.Process:
    return psutil.Process(ray.ray["vital"]["gcs_server"])


def test_what_ray_cannot_mend_is_restarted_and_then_given_up(
    ray: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    real = module.time.sleep
    monkeypatch.setattr(
        module.time, "sleep", lambda s: pauses.append(s) if s >= 1 else real(min(s, 0.02))
    )
    ray.start()
    assert ray.wait()["status"] == "ok"
    thread, said, ended = _watched(ray)
    for life in range(1, 6):
        victim = _vital(ray)
        victim.kill()
        until(lambda life=life: len(said) == 2 * life, "it serves again")
        assert "its gcs_server has ended" in said[-2]
        assert f"({life} of 5 within 10 minutes)" in said[-2]
        assert said[-1].startswith("Serving again after ")
        assert ray.probe.health() is not None
    assert pauses == [1.0, 2.0, 4.0, 8.0], "a pause before each but the first"
    _vital(ray).kill()
    thread.join(20)
    (error,) = ended
    assert isinstance(error, StartFailed)
    assert "5 times within 10 minutes and has died again: its gcs_server has ended" in str(error)
    assert "/logs" in str(error)


def test_deaths_of_long_ago_do_not_count(ray: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WINDOW_S", 0.0)
    ray.start()
    ray.wait()
    _, said, ended = _watched(ray)
    for life in range(1, 8):
        _vital(ray).kill()
        until(lambda life=life: len(said) == 2 * life, "it serves again")
    assert not ended


def test_the_process_that_runs_ray_is_watched_too(ray: Supervisor) -> None:
    ray.start()
    ray.wait()
    child: Any = ray._process
    _, said, _ = _watched(ray)
    child.kill()
    until(lambda: len(said) == 2, "it serves again")
    assert "the process that runs it has ended" in said[0]


def test_ingresses_that_fall_silent(ray: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SILENCE_S", 0.3)
    monkeypatch.setattr(module, "_PROBE_S", 0.1)
    ray.start()
    ray.wait()
    said: list[str] = []
    monkeypatch.setattr(ray.probe, "health", lambda: {"status": "ok"} if said else None)
    _watched(ray, said)
    until(lambda: len(said) == 2, "it serves again")
    assert "no ingress has answered" in said[0]


def test_ingresses_that_stay_silent_after_a_restart(
    ray: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every process lives, and nobody answers: no wait without end."""
    monkeypatch.setattr(module, "_SILENCE_S", 0.3)
    monkeypatch.setattr(module, "_MOST_RESTARTS", 2)
    ray.start()
    ray.wait()
    monkeypatch.setattr(ray.probe, "health", lambda: None)
    thread, said, ended = _watched(ray)
    thread.join(60)
    (error,) = ended
    assert isinstance(error, StartFailed)
    assert "has died again: no ingress has answered" in str(error)
    assert len(said) == 2, "it never served again"


def test_models_that_switch_without_end_do_not_hide_that_it_serves(ray: Supervisor) -> None:
    ray.start()
    ray.wait()
    script = ray.command[2]
    ray.command = [*ray.command[:2], script.replace('"status": "ok"', '"status": "switching"')]
    _, said, _ = _watched(ray)
    _vital(ray).kill()
    until(lambda: len(said) == 2, "it serves again")
    assert said[1].startswith("Serving again after ")


def test_the_order_arrives_as_it_was_sent(order: Order, tmp_path: Path) -> None:
    """Nothing that was left out is filled in, and numbers without end keep having none."""
    model = {**echo("echo/a"), "keep_alive_s": float("inf")}
    whole = {"logging_config": {"encoding": "JSON"}, "odd": float("inf"), "day": date(2026, 1, 1)}
    sent = order.model_copy(
        update={"config": Config.model_validate({"models": [model]}), "whole": whole}
    )
    script = "import sys; open({!r}, 'w').write(sys.stdin.readline())"
    supervisor = _over(sent, script.format(str(tmp_path / "line")))
    with pytest.raises(StartFailed):
        supervisor.start()
    supervisor.stop()
    arrived = Order.model_validate_json((tmp_path / "line").read_text())
    assert arrived.config == sent.config
    assert arrived.config.models[0].model_fields_set == sent.config.models[0].model_fields_set
    assert arrived.whole == {**whole, "day": "2026-01-01"}
    assert (arrived.host, arrived.port) == (sent.host, sent.port)
    assert (arrived.folder, arrived.door) == (tmp_path, None)


def test_a_start_that_fails_says_why(order: Order) -> None:
    for script, reason in ((FAILS, "The weights are cursed"), (DIES, "no such library")):
        supervisor = _over(order, script)
        with pytest.raises(StartFailed, match=reason):
            supervisor.start()
        supervisor.stop()


def test_a_death_while_it_starts(order: Order, ray: Supervisor) -> None:
    ray.command = [
        *ray.command[:2],
        ray.command[2].replace('"status": "ok"', '"status": "starting"'),
    ]
    ray.start()
    victim = _vital(ray)
    threading.Timer(0.3, victim.kill).start()
    with pytest.raises(Broken, match="its gcs_server has ended"):
        ray.wait()


def test_the_dashboard_is_started_again_by_itself(tmp_path: Path) -> None:
    script = tmp_path / "dashboard.py"
    script.write_text("import time, sys\nwhile True: time.sleep(1)\n")
    child = subprocess.Popen([sys.executable, str(script)])
    until(lambda: str(script) in psutil.Process(child.pid).cmdline(), "it has begun")
    dashboard = module._Dashboard(psutil.Process(child.pid))
    child.kill()
    child.wait()
    dashboard.mend()
    (again,) = [p for p in psutil.Process().children() if str(script) in p.cmdline()]
    assert again.pid != child.pid
    dashboard.mend()
    assert [p for p in psutil.Process().children() if str(script) in p.cmdline()] == [again]
    dashboard._process.kill()
    dashboard._process.wait()
