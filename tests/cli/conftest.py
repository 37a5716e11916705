"""Each `llm-serve` has a home of its own, and is ended by the test that started it."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.processes import COMMAND, Run, Server, environment
from tests.support.ports import free_port


@pytest.fixture(scope="session", autouse=True)
def _interrupts() -> Iterator[None]:
    """A shell starts what it puts into the background with SIGINT ignored, and whoever is started
    from there would not hear Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs `llm-serve ARGUMENTS` to its end."""

    def run(*arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *arguments],
            cwd=tmp_path,
            env={**environment(tmp_path), **extra},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts `llm-serve ARGUMENTS`; whatever is left of it ends with the test."""
    servers: list[Server] = []

    def start(*arguments: str) -> Server:
        servers.append(Server(tmp_path, *arguments))
        return servers[-1]

    yield start
    for server in servers:
        for process in server.note():
            if process.is_running():
                process.kill()
        server.process.wait(10)
        server.left()
        server.process.stdout.close()


@pytest.fixture
def port() -> int:
    return free_port()
