"""Runs a Python module in a process of its own, bounds its silence, and never lets it outlive us.

A module that crashes, runs out of memory or hangs is a sentence in the server and not its end, and
the memory that it took is given back. The two halves of this file are the two ends of a pipe: `run`
in the server, and `main` in the process that it starts.

Our own modules write JSON lines to stdout (`tell`): `{"fraction": 0.4}` or `{"needed": 1000}`
(bytes), and at most one `{"failed": "sentence"}` as the last.
"""

from __future__ import annotations

import json
import logging
import os
import runpy
import subprocess
import sys
import sysconfig
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import llm_serve

log = logging.getLogger(__name__)

POLL_S = 0.25
STALL_S = 180.0
"""A download that gains nothing for this many seconds has failed. Pip's own retries take less."""


@dataclass(frozen=True, slots=True)
class Finished:
    """How a process ended. `lines` are its last ones, of stdout and stderr together."""

    status: int
    stalled: bool
    lines: tuple[str, ...]

    @property
    def failure(self) -> str | None:
        """The sentence that one of our own modules left, if it left one."""
        return next((s for line in reversed(self.lines) if (s := _field(line, "failed"))), None)


def run(
    module: str,
    *args: str,
    tick: Callable[[deque[str]], object],
    stall_s: float | None = None,
    env: Mapping[str, str] | None = None,
) -> Finished:
    """Runs `python -m module args` to its end.

    `tick` is called every POLL_S seconds with the latest lines and returns a number or tuple that
    changes while the module gets on; where it stays the same for `stall_s` seconds, the process is
    killed. Raises nothing of its own; the process never outlives this call or ours.
    """
    command = [sys.executable, "-P", "-c", f"import {__name__} as runner; runner.main()"]
    process = subprocess.Popen(
        [*command, module, *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, **_environment(), **(env or {})},
    )
    assert process.stdout is not None
    lines: deque[str] = deque(maxlen=200)
    reader = threading.Thread(target=_read, args=(process.stdout, lines), daemon=True)
    reader.start()
    stalled = False
    try:
        mark, since = tick(lines), time.monotonic()
        while not _ended(process):
            latest, now = tick(lines), time.monotonic()
            if latest != mark:
                mark, since = latest, now
            elif stall_s is not None and now - since > stall_s:
                stalled = True
                break
    finally:
        if process.poll() is None:
            process.kill()
        status = process.wait()
        reader.join(5)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
    if status != 0:
        log.warning("%s ended with status %s:\n%s", module, status, "\n".join(lines))
    return Finished(status, stalled, tuple(lines))


def number(lines: deque[str], name: str) -> float | None:
    """The last value of a field, such as `fraction`, that one of our own modules wrote."""
    found = (_field(line, name) for line in reversed(tuple(lines)))
    return next((float(value) for value in found if value is not None), None)


def tell(**message: object) -> None:
    """Called in one of our own modules: writes one line to the process that runs it."""
    print(json.dumps(message), flush=True)


def main() -> None:
    """Runs the module that the arguments name in this process, which ends when its parent does.

    The parent holds the other end of our stdin. When it dies, however it dies, the pipe closes and
    this process leaves at once, so that a killed server leaves no download or conversion behind.
    """
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _leave_with_parent() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)


def _ended(process: subprocess.Popen[str]) -> bool:
    try:
        process.wait(POLL_S)
    except subprocess.TimeoutExpired:
        return False
    return True


def _environment() -> dict[str, str]:
    """The process imports the same `llm_serve` as this one, also one that is not installed."""
    root = str(Path(llm_serve.__file__).parents[1])
    if root == sysconfig.get_path("purelib"):
        return {}
    inherited = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": os.pathsep.join([root, inherited] if inherited else [root])}


def _read(stream: IO[str], lines: deque[str]) -> None:
    for line in stream:
        lines.append(line.rstrip())


def _field(line: str, name: str) -> str | None:
    """A field of a JSON line as text; None for other output, such as a library's warnings."""
    if not line.startswith("{"):
        return None
    try:
        value = json.loads(line).get(name)
    except (ValueError, AttributeError):
        return None
    return None if value is None else str(value)
