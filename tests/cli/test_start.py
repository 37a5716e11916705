"""`llm-serve` from start to end, with the echo backend and a Ray of its own."""

from __future__ import annotations

import re
import shlex
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from deployments.cluster.cores import NICENESS, is_control_plane
from tests.cli.files import write
from tests.cli.processes import Server, environment
from tests.cli.sockets import listening, open_to_others
from tests.support.inprocess import echo
from tests.support.waiting import until

pytestmark = pytest.mark.ray
Start = Callable[..., Server]

AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
OTHER = """
import ray
ray.init(address="local", num_cpus=1, include_dashboard=False, object_store_memory=80_000_000,
         log_to_driver=False)
task = ray.remote(num_cpus=0)(lambda: "alive")
print("up", flush=True)
while input():
    print(ray.get(task.remote()), flush=True)
"""


@pytest.fixture
def other_ray(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Someone else's Ray on this machine."""
    home = tmp_path / "other"
    home.mkdir()
    child = subprocess.Popen(
        [sys.executable, "-c", OTHER],
        env=environment(home),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdin is not None
    assert child.stdout.readline() == "up\n"
    yield child
    tree = psutil.Process(child.pid).children(recursive=True)
    child.communicate("\n", timeout=30)
    assert psutil.wait_procs(tree, timeout=10)[1] == []


def test_serves_beside_another_ray_and_stops_only_itself(
    start: Start, port: int, tmp_path: Path, other_ray: subprocess.Popen[str]
) -> None:
    server = start("--backend", "echo", "--port", str(port))
    server.until("Ctrl-C stops")

    assert f"http://127.0.0.1:{port}/v1" in server.until("Serving ")
    curl = server.until("curl ")
    answer = subprocess.run(shlex.split(curl), capture_output=True, text=True, check=True)
    assert '"role":"assistant"' in answer.stdout

    def sockets_with_ours() -> dict[str, str] | None:
        # A HAProxy that hands over to its successor right now has no port to show.
        found = listening(server.note())
        return found if any(s.endswith(f" {port}") for s in found) else None

    yielding = {is_control_plane(p): p.nice() for p in server.note() if p.is_running()}
    assert yielding == {True: NICENESS, False: 0}, "housekeeping yields to engines"

    sockets = until(sockets_with_ours, f"something listens on {port}")
    assert open_to_others(sockets) == []

    token = tmp_path / ".ray" / "auth_token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert token.read_text() not in server.output
    dashboard = re.search(r"http://\S+", server.until("Dashboard: "))
    assert dashboard is not None
    refused = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"{dashboard[0]}/api/version"]
    assert subprocess.run(refused, capture_output=True, text=True, check=True).stdout == "401"

    server.send(signal.SIGINT)
    assert server.wait() == 0
    assert server.lines[-1] == "Stopped."
    assert server.left(0) == []
    assert "Traceback" not in server.output

    assert other_ray.stdin is not None
    assert other_ray.stdout is not None
    other_ray.stdin.write("?\n")
    other_ray.stdin.flush()
    assert other_ray.stdout.readline() == "alive\n"


def test_sigterm_while_ray_starts(start: Start, port: int) -> None:
    server = start("--backend", "echo", "--port", str(port))
    server.until("Starting Ray")
    while not any(p.name() == "gcs_server" for p in server.note() if p.is_running()):
        assert server.process.is_running(), server.output
    server.send(signal.SIGTERM)
    assert server.wait() == 0, server.output
    assert server.left(1) == []
    assert "Traceback" not in server.output


def test_nothing_outlives_a_kill(start: Start, port: int) -> None:
    server = start("--backend", "echo", "--port", str(port))
    server.until("Ctrl-C stops")
    assert any(p.name() == "haproxy" for p in server.note())
    agents = {p for p in server.tree if p.name() in AGENTS}
    server.send(signal.SIGKILL)
    assert server.wait() == -signal.SIGKILL
    # Ray's two agents first try for 60 s to tell Ray, which is dead.
    left = psutil.wait_procs({p for p in server.tree if p not in agents}, timeout=20)[1]
    assert left == []


def test_a_model_that_cannot_be_loaded_ends_the_start(
    start: Start, port: int, tmp_path: Path
) -> None:
    broken = echo("broken", load_error="The weights are cursed.", preload=True)
    server = start("--config", write(tmp_path / "serve.yaml", port, broken))
    assert server.wait(90) == 1
    assert "Error: broken could not be loaded: The weights are cursed." in server.output
    assert server.left(1) == []
    assert "Traceback" not in server.output
