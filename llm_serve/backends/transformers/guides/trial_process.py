"""The process of `trial`, from the side of the server."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any


class TrialProcess:
    """Starts with the first guide. One thread may `ask`; any may `stop`."""

    def __init__(self, vocabulary: dict[str, Any]) -> None:
        self._vocabulary = vocabulary
        self._process: subprocess.Popen[bytes] | None = None
        self._open = True

    def ask(self, guide: dict[str, Any]) -> dict[str, Any]:
        """What `trial` answers; also where its process has died, and is started anew."""
        for _ in range(2):
            process = self._process
            if process is None or process.poll() is not None:
                if process is not None:
                    _end(process)
                process = self._start()
            answer = _exchange(process, guide)
            if answer:
                told: dict[str, Any] = json.loads(answer)
                return told
            _end(process)
            if not self._open:
                break
        return {"killed": True}

    def stop(self) -> None:
        self._open = False
        if self._process is not None:
            _end(self._process)

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-P", str(Path(__file__).with_name("trial.py"))]
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # what a grammar makes the compiler say is no news
        )
        self._process = process
        assert process.stdin is not None
        _send(process.stdin, self._vocabulary)
        return process


def _exchange(process: subprocess.Popen[bytes], guide: dict[str, Any]) -> bytes:
    """The answer; empty where the process has died of whatever."""
    assert process.stdin is not None
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
