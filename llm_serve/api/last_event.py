"""The event that ends a stream of the Responses route, held back until its response is stored: who
reads it may name the response in the next request."""

from __future__ import annotations

from llm_serve.generation.responses import LAST_EVENTS

_MARKS = tuple(f"\nevent: {name}\n".encode() for name in LAST_EVENTS)
_LONGEST = max(map(len, _MARKS))


class LastEvent:
    """Takes the messages of a stream, which are pieces of events, and lets through what comes
    before the last event. No data of an event has a line break, so a name is told for sure."""

    def __init__(self) -> None:
        self._before = b""
        """The end of what was let through: a name may be in two messages."""
        self._event: bytearray | None = None
        self._sent = 0
        """Bytes of the last event that were let through before it was known."""

    def feed(self, message: bytes) -> bytes:
        """What of it may be sent."""
        if self._event is not None:
            self._event += message
            return b""
        seen = self._before + message
        at = max(seen.find(mark) for mark in _MARKS)
        if at < 0:
            self._before = seen[-_LONGEST:]
            return message
        begin = at + 1 - len(self._before)
        self._event = bytearray(seen[at + 1 :])
        self._sent = max(0, -begin)
        return message[: max(0, begin)]

    def data(self) -> bytes | None:
        """The data of the last event, JSON; None where the stream ended without one."""
        if self._event is None:
            return None
        return bytes(self._event).partition(b"\ndata: ")[2].partition(b"\n\n")[0]

    def rest(self) -> bytes:
        """What was held back."""
        return b"" if self._event is None else bytes(self._event[self._sent :])
