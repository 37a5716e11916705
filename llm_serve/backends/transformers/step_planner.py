"""Which sequences compute how many tokens in the next step.

The planner is pure: it has no torch, no clock and no thread. `engine` asks it before each step.

1. Sequences that generate come first, one token each; prompts share the room that is left, in the
   order of their admission, in pieces where they are longer.
2. A sequence is admitted when there are pages for all its tokens; it takes them at once. One page
   for each running sequence stays free, so that admitting one does not mean preempting it next.
3. Where a running sequence needs a page and none is left, the youngest is preempted: it gives back
   its pages and waits at the head of the queue. What it generated it keeps; admitted again, it
   computes its tokens as if they were a prompt, less those whose pages are still there.
4. The oldest sequence can always go on, because none is longer than the cache. So all of them end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from llm_serve.backends.transformers.pages import PAGE_TOKENS, Pages, pages_for


@dataclass(slots=True, eq=False)
class Sequence:
    """A prompt and what was generated of it so far."""

    tokens: list[int]
    computed: int = 0
    """The number of tokens whose keys and values are in the cache."""
    pages: list[int] = field(default_factory=list)
    """The pages that hold them: page i has those of tokens i * PAGE_TOKENS and on."""
    cached: int = 0
    """Tokens of the prompt that were found in the cache instead of being computed."""
    running: bool = False
    preempted: bool = False
    """Whether the sequence was ever preempted."""

    @property
    def pending(self) -> int:
        """Tokens to compute before the next one is known."""
        return len(self.tokens) - self.computed


@dataclass(frozen=True, slots=True)
class StepPart:
    """A sequence's share of a step: its tokens from `start` on, `count` of them."""

    sequence: Sequence
    start: int
    count: int

    @property
    def end(self) -> int:
        return self.start + self.count

    @property
    def samples(self) -> bool:
        """Whether the sequence gets a new token of it."""
        return self.end == len(self.sequence.tokens)


class StepPlanner:
    """`plan` a step, compute it, `advance`; `add` and `remove` between steps."""

    def __init__(self, pages: Pages, *, max_batch_tokens: int, max_running: int) -> None:
        self._pages = pages
        self._max_batch_tokens = max_batch_tokens
        self._max_running = min(max_running, max_batch_tokens)
        self._running: list[Sequence] = []
        self._waiting: deque[Sequence] = deque()

    @property
    def active(self) -> int:
        """Sequences that hold a place or wait for one."""
        return len(self._running) + len(self._waiting)

    def add(self, sequence: Sequence) -> None:
        """Queues a sequence that will never be longer than the cache."""
        self._waiting.append(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Forgets a sequence, wherever it is."""
        if sequence.running:
            self._running.remove(sequence)
            self._release(sequence)
        elif sequence in self._waiting:
            self._waiting.remove(sequence)

    def plan(self) -> list[StepPart]:
        """The next step; empty only if there is no sequence."""
        parts: list[StepPart] = []
        crowded = False
        for sequence in tuple(self._running):
            if sequence.pending == 1 and sequence.running:
                crowded |= self._make_room(sequence)
                if sequence.running:
                    parts.append(StepPart(sequence, sequence.computed, 1))
        room = self._max_batch_tokens - len(parts)
        room = self._read(parts, (s for s in self._running if s.pending > 1), room)
        if not crowded:
            self._read(parts, self._admitted(), room)
        return parts

    def advance(self, parts: Iterable[StepPart]) -> None:
        """Notes that the step was computed, so that other sequences can use its full pages."""
        for part in parts:
            sequence = part.sequence
            sequence.computed = part.end
            for number in range(part.start // PAGE_TOKENS, part.end // PAGE_TOKENS):
                self._pages.publish(sequence.pages, number, _content(sequence, number))

    def _read(self, parts: list[StepPart], sequences: Iterable[Sequence], room: int) -> int:
        """Gives room to prompts, until there is none; returns what is left."""
        if room > 0:
            for sequence in sequences:
                self._skip_known(sequence)
                count = min(sequence.pending, room)
                parts.append(StepPart(sequence, sequence.computed, count))
                room -= count
                if room == 0:
                    break
        return room

    def _skip_known(self, sequence: Sequence) -> None:
        """Takes over tokens that other sequences have computed while this one waited for room."""
        while True:
            number = sequence.computed // PAGE_TOKENS
            gained = (number + 1) * PAGE_TOKENS - sequence.computed
            if sequence.pending <= gained:
                return  # its last token must be computed
            if not self._pages.adopt(sequence.pages, number, _content(sequence, number)):
                return
            self._found(sequence, gained)

    def _admitted(self) -> Iterable[Sequence]:
        """Admits those that wait, one by one, while they fit."""
        while self._waiting and len(self._running) < self._max_running:
            sequence = self._waiting[0]
            table = self._pages.match(sequence.tokens)
            missing = pages_for(len(sequence.tokens)) - len(table)
            if missing + len(self._running) > self._pages.available:
                self._pages.give_back(table)
                return
            self._waiting.popleft()
            self._running.append(sequence)
            sequence.running = True
            self._found(sequence, len(table) * PAGE_TOKENS)
            sequence.pages = table + self._pages.take(missing)
            yield sequence

    def _found(self, sequence: Sequence, tokens: int) -> None:
        sequence.computed += tokens
        if not sequence.preempted:
            sequence.cached += tokens

    def _make_room(self, sequence: Sequence) -> bool:
        """Sees to it that the next token has a page, or that the sequence no longer runs. Returns
        whether that took a preemption."""
        missing = pages_for(sequence.computed + 1) - len(sequence.pages)
        crowded = missing > self._pages.available
        while sequence.running and missing > self._pages.available:
            youngest = self._running.pop()
            self._release(youngest)
            youngest.preempted = True
            self._waiting.appendleft(youngest)
        if sequence.running:
            sequence.pages += self._pages.take(missing)
        return crowded

    def _release(self, sequence: Sequence) -> None:
        self._pages.give_back(sequence.pages)
        sequence.pages = []
        sequence.computed = 0
        sequence.running = False


def _content(sequence: Sequence, number: int) -> list[int]:
    return sequence.tokens[number * PAGE_TOKENS : (number + 1) * PAGE_TOKENS]
