"""Keeps a server up: starts Ray in a process of its own, watches it, and starts it anew.

Ray mends what dies of its own accord: replicas, the ingress, the director, the controller, the
proxies. It does not mend the processes that it is made of: without its GCS, its raylet or one of
the raylet's agents (with which the raylet ends) nothing is ever answered again. Then all of Ray is
ended and started anew, while the door answers 503 with Retry-After; at most `_MOST_RESTARTS` times
within `_WINDOW_S`. The dashboard, which serves nobody's request, is started again by itself.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import psutil

from deployments.door.door import DoorThread
from deployments.machine.environment import python_path
from deployments.machine.launch import Order, StartFailed, last_line
from deployments.machine.probe import Health, Probe
from llm_serve.host.processes import descendants, end, is_haproxy, lives

log = logging.getLogger("llm_serve.supervisor")
_LOOK_S = 0.2
_MOST_RESTARTS = 5
_WINDOW_S = 600.0
_LONGEST_PAUSE_S = 30.0
_PROBE_S = 2.0
_SILENCE_S = 60.0
"""Where no ingress has answered for so long, Ray does not mend what it was to mend."""
_STOP_S = 5.0
_WORD_S = 6.0
"""How long a director may take to begin a drain; it answers in milliseconds."""
_REPLICA = "ray::ServeReplica:"
_AWAY = "The server is restarting; try again shortly."


class Broken(Exception):
    """Ray is dead for good; the message is a sentence's beginning that says what of it."""


class Supervisor:
    """One server, over as many lives of Ray as it takes. For one thread, the main one."""

    command: Sequence[str] = (sys.executable, "-P", "-m", "deployments.machine.ray_process")

    def __init__(self, order: Order, door: DoorThread | None) -> None:
        self._order = order
        self._door = door
        self.probe = Probe(order.config, order.host, order.port)
        self.ray: dict[str, Any] = {}
        """What the process said of the Ray that runs: `logs`, `dashboard`, `token`."""
        self._process: subprocess.Popen[str] | None = None
        self._vital: dict[str, psutil.Process] = {}
        self._dashboard: _Dashboard | None = None
        self._said: dict[str, dict[str, Any]] = {}
        self._deaths: list[float] = []
        self._answered = 0.0
        self._asked = 0.0

    def start(self) -> None:
        """Starts Ray. Raises StartFailed."""
        self._said = {}
        self._vital = {}
        log_file = self._order.folder / "ray_process.log"
        with log_file.open("ab") as output:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
                start_new_session=True,  # Ctrl-C is for the command, which drains first
                env={**os.environ, "PYTHONPATH": python_path()},
            )
        threading.Thread(target=self._read, args=(self._process,), daemon=True).start()
        self._tell(json.dumps(self._order.model_dump(mode="json", exclude_unset=True)))
        while "ray" not in self._said:
            self._raise_if_failed()
            if not self._runs():
                raise StartFailed(
                    f"Ray did not start. {last_line(log_file.read_text(errors='replace'))}"
                )
            time.sleep(_LOOK_S / 4)
        self.ray = self._said["ray"]
        try:
            self._vital = {name: psutil.Process(pid) for name, pid in self.ray["vital"].items()}
        except psutil.NoSuchProcess:
            raise StartFailed("Ray has died while it started.") from None
        self._dashboard = _Dashboard.below(self._process.pid)

    def wait(self, report: Callable[[Health], None] | None = None) -> Health:
        """Until no model is loading; the last `/healthz`. Raises StartFailed and Broken."""
        while True:
            self._raise_if_failed()
            self._raise_if_broken()
            health = self.probe.health()
            if health is not None:
                if report is not None:
                    report(health)
                if health["status"] not in ("starting", "switching"):
                    self._answered = time.monotonic()
                    return health
            time.sleep(_LOOK_S / 2)

    def _wait_again(self) -> None:
        """Until an ingress serves, whatever its models do: under endless switching no moment comes
        without a load. Raises StartFailed and Broken, the latter for silence too: what has served
        before takes no minute to do so again, whereas the first start may import and fetch."""
        self._answered = time.monotonic()
        while True:
            self._raise_if_failed()
            self._raise_if_broken()
            health = self._health_or_silence()
            if health is not None and health["status"] != "starting":
                return
            time.sleep(_LOOK_S / 2)

    def watch(self, say: Callable[[str], None]) -> None:
        """Never returns: restarts Ray as often as it may. Raises StartFailed past the bound."""
        while True:
            try:
                self._raise_if_broken()
                self._raise_if_silent()
            except Broken as why:
                self._restart(str(why), say)
            time.sleep(_LOOK_S)

    def drain(self, say: Callable[[str], None]) -> None:
        """Refuses new requests, and waits until those that run have ended, `drain_timeout_s` at
        most; what runs then is told so."""
        timeout_s = self._order.config.server.drain_timeout_s
        if not self._runs() or self.probe.health() is None:
            return
        self._tell("drain")
        deadline = time.monotonic() + _WORD_S
        while "draining" not in self._said and self._runs() and time.monotonic() < deadline:
            time.sleep(_LOOK_S / 10)
        deadline = time.monotonic() + timeout_s
        told = 0
        while (left := self._work()) and time.monotonic() < deadline:
            if left != told:
                told = left
                say(f"Waiting for {left} running requests, {timeout_s:g} s at most; "
                    "once more stops at once.")  # fmt: skip
            time.sleep(_LOOK_S)
        if left:
            self._cut()
        if self._door is not None:
            self._door.idle(_STOP_S)  # the last bytes are on their way

    def stop(self, grace_s: float = _STOP_S) -> None:
        """Ends Ray and all that belongs to it; the door stays. Safe to call twice."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        mine = _below(process.pid)
        with suppress(OSError):
            process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            process.wait(grace_s)
        process.kill()
        process.wait()
        # What it left is ours now: this process adopts orphans.
        end([*mine, *(p for p in descendants() if not is_haproxy(p))], 0)

    def _restart(self, why: str, say: Callable[[str], None]) -> None:
        """Until Ray serves again. Raises StartFailed past the bound."""
        while True:
            now = time.monotonic()
            self._deaths = [at for at in self._deaths if now - at < _WINDOW_S]
            if len(self._deaths) >= _MOST_RESTARTS:
                raise StartFailed(
                    f"Ray was restarted {len(self._deaths)} times within {_WINDOW_S / 60:.0f} "
                    f"minutes and has died again: {why}. Its logs are in {self.ray.get('logs')}."
                )
            if self._door is not None:
                self._door.close(_AWAY)
            self._deaths.append(now)
            count = len(self._deaths)
            say(f"Ray has died: {why}. Restarting it ({count} of {_MOST_RESTARTS} within "
                f"{_WINDOW_S / 60:.0f} minutes) ...")  # fmt: skip
            self.stop(grace_s=0)  # the dead would be waited for
            self._sweep()
            if count > 1:
                time.sleep(min(_LONGEST_PAUSE_S, 2.0 ** (count - 2)))
            try:
                self.start()
                self._wait_again()
            except (StartFailed, Broken) as error:
                why = str(error).rstrip(".")
                continue
            say(f"Serving again after {time.monotonic() - now:.0f} s.")
            return

    def _sweep(self) -> None:
        """Removes what the Ray that has ended left in the server's folder: sockets of its nodes
        and temporary files. The door's own files lie beside them, and stay."""
        for left in self._order.folder.iterdir():
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)

    def _raise_if_failed(self) -> None:
        if failed := self._said.get("failed"):
            raise StartFailed(failed["reason"])

    def _raise_if_broken(self) -> None:
        if not self._runs():
            raise Broken("the process that runs it has ended")
        for name, process in self._vital.items():
            if not lives(process):
                raise Broken(f"its {name} has ended")
        if lost := self._said.get("lost"):
            raise Broken(f"its {lost['what']} does not start any more")
        if self._dashboard is not None:
            self._dashboard.mend()

    def _raise_if_silent(self) -> None:
        now = time.monotonic()
        if now - self._asked < _PROBE_S:
            return
        self._asked = now
        self._health_or_silence()

    def _health_or_silence(self) -> Health | None:
        """`/healthz`. Raises Broken where it has not answered for too long."""
        health = self.probe.health()
        if health is not None:
            self._answered = time.monotonic()
        elif time.monotonic() - self._answered > _SILENCE_S:
            raise Broken(f"no ingress has answered for {_SILENCE_S:.0f} s")
        return health

    def _work(self) -> int:
        health = self.probe.health()
        return 0 if health is None else int(health["running"] + health["queue_depth"])

    def _cut(self) -> None:
        """Ends the models' replicas, whose requests the ingress then answers with an error."""
        assert self._process is not None
        replicas = [p for p in _below(self._process.pid) if _is_model(p)]
        for process in replicas:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        deadline = time.monotonic() + _STOP_S
        while self._work() and time.monotonic() < deadline:
            time.sleep(_LOOK_S)

    def _runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _tell(self, line: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                said = json.loads(line)
                if process is self._process:
                    self._said[said["event"]] = said


class _Dashboard:
    """Ray's dashboard, which Ray does not start again; with its command and environment."""

    def __init__(self, process: psutil.Process) -> None:
        self._process: psutil.Process | psutil.Popen = process
        self._command = process.cmdline()
        self._environment = process.environ()

    @classmethod
    def below(cls, pid: int) -> _Dashboard | None:
        for process in _below(pid):
            with suppress(psutil.Error):
                if any(word.endswith("/dashboard.py") for word in process.cmdline()):
                    return cls(process)
        return None

    def mend(self) -> None:
        """Starts the dashboard again if it has ended."""
        if lives(self._process):
            return
        log.warning("Ray's dashboard has ended; starting it again")
        quiet = subprocess.DEVNULL
        self._process = psutil.Popen(
            self._command,
            env=self._environment,
            stdin=quiet,
            stdout=quiet,
            stderr=quiet,
            start_new_session=True,
        )


def _below(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _is_model(process: psutil.Process) -> bool:
    try:
        title = (process.cmdline() or [""])[0]
    except psutil.Error:
        return False
    return title.startswith(_REPLICA) and ":Model." in title
