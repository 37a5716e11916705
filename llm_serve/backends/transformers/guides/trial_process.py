"""The process of `trial`, from the side of the server."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from llm_serve.errors import EngineDied


class TrialProcess:
    """Starts with the first guide. One thread may `ask`; any may `stop`."""

    def __init__(self, vocabulary: dict[str, Any]) -> None:
        self._vocabulary = vocabulary
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False
        self._lock = threading.Lock()

    def ask(self, guide: dict[str, Any]) -> dict[str, Any]:
        """What `trial` answers, also where its process has died and is started anew. Raises
        EngineDied once it is stopped."""
        for _ in range(2):
            process = self._running()
            if answer := _exchange(process, guide):
                told: dict[str, Any] = json.loads(answer)
                return told
            _end(process)
        return {"killed": True}

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            if self._process is not None:
                _end(self._process)

    def _running(self) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._stopped:
                raise EngineDied("The engine of this model is being stopped.")
            if self._process is not None and self._process.poll() is None:
                return self._process
            if self._process is not None:
                _end(self._process)
            self._process = _started(self._vocabulary)
            return self._process


def _started(vocabulary: dict[str, Any]) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-P", str(Path(__file__).with_name("trial.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # what a grammar makes the compiler say is no news
    )
    _send(process.stdin, vocabulary)
    return process


def _exchange(process: subprocess.Popen[bytes], guide: dict[str, Any]) -> bytes:
    """The answer; empty where the process has died of whatever."""
    assert process.stdout is not None
    try:
        _send(process.stdin, guide)
        return process.stdout.readline()
    except (OSError, ValueError):  # it has died, or was stopped
        return b""


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        with suppress(BrokenPipeError):  # what was not read by then
            pipe.close()


def _send(stdin: Any, value: dict[str, Any]) -> None:
    try:
        stdin.write(json.dumps(value).encode() + b"\n")
        stdin.flush()
    except BrokenPipeError:
        return
