"""Ctrl-C, SIGTERM and a closed terminal: the first stops in order, the second at once.

The main thread may sit in C code when a signal comes, and then runs no handler. So a thread
watches as well: what has not stopped within `_PATIENCE_S` is killed.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
from types import FrameType, TracebackType
from typing import Any, Self

from llm_serve.processes import end_all

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PATIENCE_S = 8.0


class Stopped(BaseException):
    """Someone asked us to stop. Raised once, in the main thread, wherever it is."""


class StopSignals:
    """While it is open, signals raise Stopped. Only for the main thread."""

    def __init__(self) -> None:
        self.asked = False
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        self._before = {number: signal.getsignal(number) for number in _SIGNALS}
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self.listen()
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

    def listen(self) -> None:
        """Sets the handlers; again after `ray.init`, which sets one of its own for SIGTERM."""
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
        readable, _, _ = select.select([self._reader], [], [], _PATIENCE_S)
        if readable and not self._reader.recv(1):
            return  # closed: all has ended in order
        end_all()
        os._exit(1)
