"""Responses that are kept for a while, within a bound of bytes: pure, and in one process.

The least recently used one goes first, of the owner who has most: nobody's many responses drive out
another's few. A conversation is a chain of responses, each of which has its own turn alone; who
asks for the last one uses all.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

_OVERHEAD = 1024
"""Bytes that an entry counts beside its texts, so that their number is bounded too."""


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """One response as bytes of JSON. `turn` is the list of its items: those of the request's input,
    then those of the answer."""

    owner: str
    """Who may see it."""
    response: bytes
    turn: bytes
    previous: str | None = None
    """The id of the response that it goes on from."""

    @property
    def size(self) -> int:
        return len(self.response) + len(self.turn) + _OVERHEAD


@dataclass(frozen=True, slots=True)
class Recalled:
    """What was asked for of a store: the turns of a conversation, the oldest first, or None where
    one of them is not there; and those turns of single responses that are."""

    conversation: tuple[bytes, ...] | None
    turns: dict[str, bytes]


class ResponseStore:
    """Holds `max_bytes` at most. What is larger by itself is not kept at all."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self._owners: dict[str, OrderedDict[str, StoredResponse]] = {}
        """Of each owner the responses by id, the least recently used first."""
        self._bytes: dict[str, int] = {}

    def keep(self, response_id: str, stored: StoredResponse) -> None:
        self.forget(stored.owner, response_id)
        if stored.size > self.max_bytes:
            return
        self._make_room(self.max_bytes - stored.size)
        self._owners.setdefault(stored.owner, OrderedDict())[response_id] = stored
        self._count(stored.owner, stored.size)

    def limit(self, max_bytes: int) -> None:
        """A new bound, which holds at once."""
        self.max_bytes = max_bytes
        self._make_room(max_bytes)

    def response(self, owner: str, response_id: str) -> bytes | None:
        """The response itself."""
        stored = self._use(owner, response_id)
        return None if stored is None else stored.response

    def recall(self, owner: str, last: str | None, others: Iterable[str] = ()) -> Recalled:
        """The conversation up to the response `last`, and the turns of others."""
        chain: list[bytes] = []
        whole = True
        while last is not None and whole:
            stored = self._use(owner, last)
            whole = stored is not None
            if stored is not None:
                chain.append(stored.turn)
                last = stored.previous
        turns = {one: found.turn for one in others if (found := self._use(owner, one)) is not None}
        return Recalled(tuple(reversed(chain)) if whole else None, turns)

    def forget(self, owner: str, response_id: str) -> bool:
        """Whether it was there."""
        kept = self._owners.get(owner)
        stored = None if kept is None else kept.pop(response_id, None)
        if stored is None:
            return False
        self._count(owner, -stored.size)
        return True

    def _make_room(self, most: int) -> None:
        while self.bytes > most:
            owner = max(self._bytes, key=lambda one: self._bytes[one])
            self.forget(owner, next(iter(self._owners[owner])))

    def _use(self, owner: str, response_id: str) -> StoredResponse | None:
        kept = self._owners.get(owner)
        if kept is None or response_id not in kept:
            return None
        kept.move_to_end(response_id)
        return kept[response_id]

    def _count(self, owner: str, size: int) -> None:
        self.bytes += size
        self._bytes[owner] = self._bytes.get(owner, 0) + size
        if not self._bytes[owner]:
            del self._bytes[owner], self._owners[owner]
