"""What Ray's HAProxyManager starts and takes for HAProxy; the real one belongs to the door.

    llm-serve-haproxy -db -f CONFIG ...     (RAY_SERVE_HAPROXY_BINARY_PATH)

It hands the configuration to the door, answers on the admin socket that Ray asks (with its own
process id, which Ray compares), and ends when the HAProxy of that configuration has ended, or with
the manager. Killing it ends no connection. It imports the standard library only: Ray starts one
for every change of the replicas, and waits for it.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from pathlib import Path

DOOR = "LLM_SERVE_DOOR"
"""The environment variable with the control socket of the door of `llm-serve`."""
_PR_SET_PDEATHSIG = 1
_DOOR_S = 15.0
"""How long a new door may take until it hears."""


def main() -> None:
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            sys.exit("the process that wanted HAProxy is gone")
    # Ray tells one that was replaced to finish; the door says when its HAProxy has.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    config = Path(sys.argv[sys.argv.index("-f") + 1])
    with _connect(config, parent) as door:
        door.sendall(json.dumps({"config": str(config)}).encode() + b"\n")
        with door.makefile("rb") as answers:
            line = answers.readline()
            answer = json.loads(line) if line else {"error": "the door closed the connection"}
            if "error" in answer:
                sys.exit(f"HAProxy did not start: {answer['error']}")
            _answer_for(Path(answer["admin"]), _asked_at(config))
            answers.read()


def _connect(config: Path, manager: int) -> socket.socket:
    """The door of `llm-serve`, or the one of this node, which is started where there is none."""
    if chosen := os.environ.get(DOOR):
        return _reach(Path(chosen))
    control = config.parent / "door"
    try:
        return _reach(control)
    except OSError:
        control.unlink(missing_ok=True)
    from deployments.door.haproxy import address_of

    address = address_of(config.read_text())
    raylet = int(Path(f"/proc/{manager}/stat").read_text().rpartition(")")[2].split()[1])
    log = config.parent / "door.log"
    with log.open("wb") as output:
        command = [sys.executable, "-P", "-m", "deployments.door.door", str(config.parent)]
        door = subprocess.Popen(
            [*command, address.host, str(address.port), str(raylet)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    deadline = time.monotonic() + _DOOR_S
    while True:
        try:
            return _reach(control)
        except OSError:
            if door.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"the door did not open: {log.read_text()[-2000:]}")
            time.sleep(0.02)


def _reach(control: Path) -> socket.socket:
    door = socket.socket(socket.AF_UNIX)
    try:
        door.connect(str(control))
    except OSError:
        door.close()
        raise
    return door


def _asked_at(config: Path) -> Path:
    """The admin socket that Ray's configuration names."""
    found = re.search(r"^ *stats socket (\S+)", config.read_text(), re.MULTILINE)
    if found is None:
        sys.exit("Ray Serve's configuration of HAProxy names no admin socket any more.")
    return Path(found[1])


def _answer_for(admin: Path, asked_at: Path) -> None:
    """Answers on `asked_at` from a thread, in place of a stand-in that did before."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            command = self.rfile.readline()
            with socket.socket(socket.AF_UNIX) as real:
                real.settimeout(5)
                real.connect(str(admin))
                real.sendall(command)
                answer = b""
                while part := real.recv(65536):
                    answer += part
            self.wfile.write(re.sub(rb"(?m)^Pid: \d+", b"Pid: %d" % os.getpid(), answer))

    class Server(socketserver.ThreadingUnixStreamServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """HAProxy is away for a moment; Ray asks again."""

    new = asked_at.with_name(f"{asked_at.name}.{os.getpid()}")
    server = Server(str(new), Handler)
    new.chmod(0o600)
    new.rename(asked_at)
    threading.Thread(target=server.serve_forever, daemon=True).start()


if __name__ == "__main__":
    main()
