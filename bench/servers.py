"""Starts the servers that are compared, pauses them, and measures their memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import psutil
import yaml

from bench.imported import checkouts
from deployments.schema import deploy_schema
from llm_serve.config import DEFAULT_HOST, DEFAULT_PORT, Config
from llm_serve.host.ports import free_port

BIN = Path(sys.executable).parent
HERE = Path(__file__).resolve().parents[1]
"""The checkout of this bench."""


@dataclass(frozen=True)
class Server:
    """How to start one server; `{port}` in the command is filled in."""

    name: str
    command: Sequence[str]
    ready: str
    """The path that answers 200, and holds `expect`, once the server serves."""
    expect: str = ""
    model: str | None = None
    checkout: Path | None = None
    """Whose `llm_serve` and `deployments` it runs; None for a server that is not ours."""


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

    @contextmanager
    def awake(self) -> Iterator[None]:
        """Lets it run until the end of the block."""
        self.resume()
        try:
            yield
        finally:
            self.pause()

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


def add_before(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--before",
        metavar="CHECKOUT",
        type=Path,
        help="compare with the llm-serve of another checkout (git worktree add FOLDER COMMIT)",
    )


def llm_serve(path: Path, config: dict[str, Any], model: str | None = None) -> Server:
    """This checkout's server of a configuration, which is written to `path`. Requests name
    `model`."""
    schema = deploy_schema(Config.model_validate(config), DEFAULT_HOST, DEFAULT_PORT)
    path.write_text(yaml.safe_dump(schema))
    return _serving(HERE, "llm-serve", path, model)


def before(server: Server, checkout: Path) -> Server:
    """The same server as another checkout starts it. Raises SystemExit where that is this one."""
    checkout = checkout.resolve()
    if checkout == HERE:
        raise SystemExit(f"--before: {checkout} is the checkout of this bench; name another one.")
    for name, place in (("llm-serve", HERE), ("before", checkout)):
        print(f"{name}: {place} at {_commit(place)}")
    path = Path(server.command[server.command.index("--config") + 1])
    return _serving(checkout, "before", path, server.model)


def _serving(checkout: Path, name: str, path: Path, model: str | None) -> Server:
    scripts = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]["scripts"]
    module, function = scripts["llm-serve"].split(":")
    code = f"import sys; from {module} import {function}; sys.exit({function}())"
    command = [sys.executable, "-P", "-c", code, "--config", str(path), "--port", "{port}"]
    return Server(name, command, "/healthz", '"status":"ok"', model, checkout)


def _commit(checkout: Path) -> str:
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip() or "no commit"


@contextmanager
def started(server: Server, timeout_s: float = 300) -> Iterator[Running]:
    """Runs the server; stops it and all that it started at the end. Raises RuntimeError, also
    where one of its processes has imported llm-serve from another checkout than the server's."""
    port = free_port()
    command = [part.format(port=port) for part in server.command]
    with TemporaryFile() as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=server.checkout,
            env=_environment(server),
        )
        running = Running(f"http://127.0.0.1:{port}", psutil.Process(process.pid))
        try:
            deadline = time.monotonic() + timeout_s
            while not _answers(running.url + server.ready, server.expect):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    tail = log.read()[-2000:].decode(errors="replace")
                    raise RuntimeError(f"{server.name} did not start:\n{tail}")
                time.sleep(0.2)
            if server.checkout is not None:
                _require_source(running, server.checkout)
            yield running
        finally:
            running.resume()
            _stop(process)


@contextmanager
def all_started(servers: Sequence[Server]) -> Iterator[list[tuple[Server, Running]]]:
    """Runs all of them at once, each paused: they take turns with `Running.awake`."""
    with ExitStack() as stack:
        up = []
        for server in servers:
            running = stack.enter_context(started(server))
            running.pause()
            up.append((server, running))
        yield up


def _environment(server: Server) -> dict[str, str]:
    if server.checkout is None:
        return dict(os.environ)
    rest = os.environ.get("PYTHONPATH")
    path = os.pathsep.join([str(server.checkout), rest] if rest else [str(server.checkout)])
    return {**os.environ, "PYTHONPATH": path}


def _require_source(running: Running, checkout: Path) -> None:
    """Raises RuntimeError unless the command and Ray's workers run the code of this checkout."""
    found = {p: checkouts(p.pid) for p in _tree(running.process)}
    for process, places in found.items():
        for place in places - {checkout}:
            raise RuntimeError(f"{checkout}: process {process.pid} has imported from {place}")
    workers = [p for p, places in found.items() if places and p.name().startswith("ray::")]
    if not found[running.process] or not workers:
        raise RuntimeError(f"nothing shows that {checkout} is what runs")


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
        process.wait()
    _, alive = psutil.wait_procs(family, timeout=20)
    for left in alive:
        with suppress(psutil.NoSuchProcess):
            left.kill()
