"""Starts the servers that are compared, pauses them, and measures their memory."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import psutil
import yaml

from deployments.schema import deploy_schema
from llm_serve.config import DEFAULT_HOST, DEFAULT_PORT, Config

BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Server:
    """How to start one server; `{port}` in the command is filled in."""

    name: str
    command: Sequence[str]
    ready: str
    """The path that answers 200, and holds `expect`, once the server serves."""
    expect: str = ""
    model: str | None = None


@dataclass
class Running:
    """A server that serves."""

    url: str
    process: psutil.Process
    peak_bytes: int = 0
    """Highest proportional set size (PSS) of the whole process tree that was seen."""

    def pause(self) -> None:
        """Stops every process of it, so that another server has the machine to itself."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        for process in _tree(self.process):
            with suppress(psutil.Error):
                process.send_signal(number)

    def weigh(self) -> None:
        """Reads the memory. Not under load: it takes the server's cores, the more the larger."""
        total = 0
        for process in _tree(self.process):
            with suppress(psutil.Error):
                total += process.memory_full_info().pss
        self.peak_bytes = max(self.peak_bytes, total)


def configured(path: Path, config: dict[str, Any]) -> list[str]:
    """Writes a configuration file; the command that serves it."""
    schema = deploy_schema(Config.model_validate(config), DEFAULT_HOST, DEFAULT_PORT)
    path.write_text(yaml.safe_dump(schema))
    return [str(BIN / "llm-serve"), "--config", str(path), "--port", "{port}"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def started(server: Server, timeout_s: float = 300) -> Iterator[Running]:
    """Runs the server; stops it and all that it started at the end. Raises RuntimeError."""
    port = free_port()
    command = [part.format(port=port) for part in server.command]
    with TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        running = Running(f"http://127.0.0.1:{port}", psutil.Process(process.pid))
        try:
            deadline = time.monotonic() + timeout_s
            while not _answers(running.url + server.ready, server.expect):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    tail = log.read()[-2000:].decode(errors="replace")
                    raise RuntimeError(f"{server.name} did not start:\n{tail}")
                time.sleep(0.2)
            yield running
        finally:
            running.resume()
            _stop(process)


def _answers(url: str, expect: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return response.status == 200 and expect in response.read().decode()
    except (urllib.error.URLError, OSError):
        return False


def _tree(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return [process, *process.children(recursive=True)]
    return []


def _stop(process: subprocess.Popen[bytes]) -> None:
    family = _tree(psutil.Process(process.pid)) if process.poll() is None else []
    process.send_signal(2)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
    _, alive = psutil.wait_procs(family, timeout=20)
    for left in alive:
        with suppress(psutil.NoSuchProcess):
            left.kill()
