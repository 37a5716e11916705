"""Which inputs are computed together next: of about the same length, and every request in turn.

Pure, and used by one thread.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from typing import Generic, TypeVar

_Request = TypeVar("_Request")


class _Waiting(Generic[_Request]):
    """The inputs of one request that are not computed yet: (length, number), the shortest first."""

    def __init__(self, request: _Request, lengths: Sequence[int]) -> None:
        self.request = request
        self.inputs = sorted((length, number) for number, length in enumerate(lengths))

    def take(self, shortest: int, longest: int) -> tuple[int, int] | None:
        """The longest input within these lengths, both included, which waits no longer; or None."""
        place = bisect_right(self.inputs, longest, key=lambda entry: entry[0])
        if place == 0 or self.inputs[place - 1][0] < shortest:
            return None
        return self.inputs.pop(place - 1)


class Batches(Generic[_Request]):
    """A batch holds up to `max_tokens`, padding counted, or one input that is longer.

    The requests lead by turns. The one that leads brings its longest input; then each in turn adds
    one that is not longer and more than half as long, while there is room. So a request with one
    input waits for one batch of each of the others at most, and less than half of what is computed
    is padding.
    """

    def __init__(self, max_tokens: int) -> None:
        self._max_tokens = max_tokens
        self._turns: deque[_Waiting[_Request]] = deque()

    def __bool__(self) -> bool:
        return bool(self._turns)

    def add(self, request: _Request, lengths: Sequence[int]) -> None:
        """Queues a request, whose inputs have so many tokens each."""
        if lengths:
            self._turns.append(_Waiting(request, lengths))

    def remove(self, request: _Request) -> None:
        """Forgets what of the request still waits."""
        self._turns = deque(one for one in self._turns if one.request is not request)

    def next(self) -> list[tuple[_Request, int]]:
        """The requests and the numbers of their inputs; empty where nothing waits."""
        if not self._turns:
            return []
        lead = self._turns[0]
        self._turns.rotate(-1)
        longest, number = lead.inputs.pop()
        batch = [(lead.request, number)]
        room = self._max_tokens // max(longest, 1) - 1
        givers = list(self._turns)
        while room > 0 and givers:
            gave = []
            for one in givers:
                taken = one.take(longest // 2 + 1, longest) if room > 0 else None
                if taken is not None:
                    batch.append((one.request, taken[1]))
                    gave.append(one)
                    room -= 1
            givers = gave
        self._turns = deque(one for one in self._turns if one.inputs)
        return batch
