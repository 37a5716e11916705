"""The door of a node, which the first stand-in starts where `llm-serve` holds none."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest

from llm_serve.errors import NotReady
from tests.door.conftest import COMMAND, ROOT
from tests.support.client import check, refused
from tests.support.ray_haproxy_config import admin_pid, rendered
from tests.support.waiting import until

MANAGER = "{command} & echo $!; wait"
"""Starts the stand-in, says its process id and waits, as the manager does below the raylet."""


@pytest.fixture
def raylet(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A shell whose children are managers; it runs one command a line."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("LLM_SERVE_")}
    with subprocess.Popen(
        ["sh"],
        env={**environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as raylet:
        yield raylet
        raylet.kill()
    for process in psutil.process_iter(["cmdline"]):
        if str(folder) in " ".join(process.info["cmdline"] or ()):
            with suppress(psutil.NoSuchProcess):
                process.wait(20)  # the door looks twice a second


def _manage(raylet: subprocess.Popen[str], folder: Path, port: int, *servers: int) -> int:
    """A manager with its stand-in: the stand-in's process id."""
    file = rendered(folder, port, *servers)
    manager = f"sh -c {shlex.quote(MANAGER.format(command=shlex.join([*COMMAND, str(file)])))} &\n"
    assert raylet.stdin is not None
    assert raylet.stdout is not None
    raylet.stdin.write(manager)
    raylet.stdin.flush()
    pid = int(raylet.stdout.readline())
    until(lambda: admin_pid(folder / "ray" / "admin") == pid, "the stand-in answers")
    return pid


def test_it_outlives_the_manager_and_ends_with_the_raylet(
    raylet: subprocess.Popen[str], folder: Path, port: int, ingress: int
) -> None:
    url = f"http://127.0.0.1:{port}/v1/models"
    first = _manage(raylet, folder, port)
    refused(check(httpx.get(url)), NotReady)
    _manage(raylet, folder, port, ingress)
    assert httpx.get(url).json() == {"status": "ok"}
    (door,) = [p for p in psutil.process_iter() if _is_door(p, folder)]
    for manager in psutil.Process(raylet.pid).children():
        manager.kill()
    until(lambda: not psutil.pid_exists(first), "a stand-in ends with its manager")
    assert httpx.get(url).json() == {"status": "ok"}
    _manage(raylet, folder, port, ingress)
    assert [p for p in psutil.process_iter() if _is_door(p, folder)] == [door]
    assert httpx.get(url).json() == {"status": "ok"}
    raylet.send_signal(signal.SIGKILL)
    assert psutil.wait_procs([door], timeout=20)[1] == []
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)


def _is_door(process: psutil.Process, folder: Path) -> bool:
    try:
        words = process.cmdline()
    except psutil.Error:
        return False
    return "deployments.door.door" in words and any(word.startswith(str(folder)) for word in words)
