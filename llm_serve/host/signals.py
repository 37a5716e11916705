"""Ctrl-C, SIGTERM and a closed terminal: the first stops in order, the second at once.

The main thread may sit in C code when a signal comes, and then runs no handler. So a thread
watches as well: it kills everything at the second signal, and what has not stopped within
`_PATIENCE_S` after the running requests have ended.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
import time
from types import FrameType, TracebackType
from typing import Any, Self

from llm_serve.host.processes import end_all

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PATIENCE_S = 20.0
"""An end takes some 5 s, and twice as long on a crowded machine."""
_LOOK_S = 0.1


class Stopped(BaseException):
    """Someone asked us to stop. Raised once, in the main thread, wherever it is."""


class StopSignals:
    """While it is open, signals raise Stopped. Only for the main thread."""

    def __init__(self) -> None:
        self.asked = False
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._before: dict[signal.Signals, Any] = {}
        self._ends_at: float | None = None

    def ending(self) -> None:
        """Nothing is waited for any more: the end must come within `_PATIENCE_S`."""
        if self._ends_at is None:
            self._ends_at = time.monotonic() + _PATIENCE_S

    def __enter__(self) -> Self:
        self._before = {number: signal.getsignal(number) for number in _SIGNALS}
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._listen()
        threading.Thread(target=self._watch, daemon=True, name="stop-signals").start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        signal.set_wakeup_fd(-1)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._writer.close()

    def _listen(self) -> None:
        for number in _SIGNALS:
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if not self.asked:
            self.asked = True
            raise Stopped

    def _watch(self) -> None:
        numbers = {int(number) for number in _SIGNALS}
        while (byte := self._reader.recv(1)) and byte[0] not in numbers:
            continue
        if not byte:
            return
        while self._ends_at is None or time.monotonic() < self._ends_at:
            readable, _, _ = select.select([self._reader], [], [], _LOOK_S)
            if not readable:
                continue
            byte = self._reader.recv(1)
            if not byte:
                return  # closed: all has ended in order
            if byte[0] in numbers:
                break
        end_all()
        os._exit(1)
