"""A door, an ingress behind it, and stand-ins as Ray's manager starts them; no Ray runs."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import psutil
import pytest

from deployments.door.door import DoorThread
from deployments.door.stand_in import DOOR
from tests.support.ports import free_port
from tests.support.ray_haproxy_config import admin_pid, rendered
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]
STARTING = "The server is starting; try again shortly."
COMMAND = [sys.executable, "-P", "-m", "deployments.door.stand_in", "-db", "-f"]
StandIn = Callable[..., subprocess.Popen[bytes]]


class _Ingress(BaseHTTPRequestHandler):
    """Answers in our shape, or at /text/STATUS as Ray does; tells what headers it got."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        status, kind, body = 200, "application/json", b'{"status": "ok"}'
        if self.path.startswith("/text/"):
            status, kind, body = int(self.path[6:]), "text/plain", b"Ray's words"
        if self.path == "/dies":
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        if self.path == "/silent":
            self.rfile.read(1)
            return
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.send_header("x-request-id", self.headers.get("x-request-id", ""))
        self.send_header("x-bind", self.headers.get("x-llm-serve-bind", ""))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def ingress() -> Iterator[int]:
    """The port of an ingress."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            pass

    with Server(("127.0.0.1", 0), _Ingress) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.fixture
def folder() -> Iterator[Path]:
    """With a path that is short enough for unix sockets."""
    with tempfile.TemporaryDirectory(prefix="door-", dir="/tmp") as name:
        yield Path(name)


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def door(folder: Path, port: int) -> Iterator[DoorThread]:
    """Open, and not yet known to Ray."""
    door = DoorThread(folder, "127.0.0.1", port)
    try:
        yield door.open(STARTING)
    finally:
        door.shut()
    until(lambda: not haproxies(), "no HAProxy is left")


@pytest.fixture
def stand_in(folder: Path, port: int) -> Iterator[StandIn]:
    """Starts one, as Ray does, and waits until it answers with its own process id."""
    with ExitStack() as stack:

        def start(*servers: int) -> subprocess.Popen[bytes]:
            process = subprocess.Popen(
                [*COMMAND, str(rendered(folder, port, *servers))],
                env={**os.environ, "PYTHONPATH": str(ROOT), DOOR: str(folder / "door")},
            )
            stack.callback(_end, process)
            here = folder / "ray" / "admin"
            until(lambda: admin_pid(here) == process.pid, "the stand-in answers")
            return process

        yield start


def haproxies() -> list[psutil.Process]:
    """Those that this process started."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if process.name() == "haproxy" and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
