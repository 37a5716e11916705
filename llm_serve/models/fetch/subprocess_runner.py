"""Work in a child process: progress as lines, a limit on standing still, no limit on the whole.

A child that crashes, runs out of memory or hangs is a sentence in the server and not its end, and
what it allocated is given back. Our own children write JSON lines to stdout: `{"fraction": 0.4}`
or `{"needed": 1000}` (bytes), and at most one `{"failed": "sentence"}` as the last.
"""

from __future__ import annotations

import json
import logging
import os
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
    """How a child ended. `lines` are the last ones that it wrote, stdout and stderr together."""

    status: int
    stalled: bool
    lines: tuple[str, ...]

    @property
    def failure(self) -> str | None:
        """The sentence that one of our own children left, if it left one."""
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
    changes while the child gets on; where it stays the same for `stall_s` seconds the child is
    killed. Raises nothing of its own; the child never outlives this call or this process.
    """
    command = [sys.executable, "-P", "-m", "llm_serve.models.fetch.leash", module, *args]
    process = subprocess.Popen(
        command,
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
    """The last value of a field, such as `fraction`, that one of our own children wrote."""
    found = (_field(line, name) for line in reversed(tuple(lines)))
    return next((float(value) for value in found if value is not None), None)


def tell(**message: object) -> None:
    """Called in a child of ours: one line to the parent."""
    print(json.dumps(message), flush=True)


def _ended(process: subprocess.Popen[str]) -> bool:
    try:
        process.wait(POLL_S)
    except subprocess.TimeoutExpired:
        return False
    return True


def _environment() -> dict[str, str]:
    """The child imports the same `llm_serve` as we do, also one that is not installed."""
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
