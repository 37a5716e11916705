"""Who computes what in the next step, without a model: tokens are drawn by the test."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from llm_serve.backends.transformers.pages import PAGE_TOKENS, Pages, pages_for
from llm_serve.backends.transformers.step_planner import Sequence, StepPart, StepPlanner

ROOM = 64


def planner(pages: int = 8, max_running: int = 8, *, reuse: bool = True) -> StepPlanner:
    return StepPlanner(Pages(pages, reuse=reuse), max_batch_tokens=ROOM, max_running=max_running)


def step(it: StepPlanner, token: int = 7) -> list[tuple[int, int]]:
    """Plans and computes a step; returns every part's start and count."""
    parts = it.plan()
    sampling = [part.sequence for part in parts if part.samples]
    it.advance(parts)
    for sequence in sampling:
        sequence.tokens.append(token)
    return [(part.start, part.count) for part in parts]


def added(it: StepPlanner, length: int, first: int = 100) -> Sequence:
    sequence = Sequence([first + i for i in range(length)])
    it.add(sequence)
    return sequence


def test_a_long_prompt_is_read_in_pieces() -> None:
    it = planner()
    added(it, 150)
    assert [step(it) for _ in range(4)] == [[(0, 64)], [(64, 64)], [(128, 22)], [(150, 1)]]


def test_generating_comes_first_and_prompts_take_the_rest() -> None:
    it = planner()
    added(it, 3)
    step(it)
    added(it, 100, 500)
    assert step(it) == [(3, 1), (0, 63)]
    assert step(it) == [(4, 1), (63, 37)]
    assert step(it) == [(5, 1), (100, 1)]


def test_no_more_run_than_may() -> None:
    it = planner(max_running=2)
    first, _, _ = (added(it, 3, 100 * i) for i in range(3))
    assert len(step(it)) == 2
    it.remove(first)
    assert step(it) == [(3, 1), (0, 3)]


def test_the_youngest_gives_way_and_comes_back_with_its_tokens() -> None:
    it = planner(pages=4)
    old, young = added(it, 40), added(it, 30, 500)
    while not young.preempted:
        step(it)
    assert not young.running
    assert young.pages == []
    kept = list(young.tokens)
    it.remove(old)
    step(it)
    assert young.tokens == [*kept, 7]
    assert young.running


def test_a_preempted_sequence_finds_its_own_pages() -> None:
    it = planner(pages=5)
    old, young = added(it, 60), added(it, 40, 500)
    while not young.preempted:
        step(it)
    it.remove(old)
    (part,) = it.plan()
    assert part.start >= 2 * PAGE_TOKENS > 40, "of what it generated, too"
    assert young.cached == 0


def test_cancelling_the_old_ones_stalls_nobody() -> None:
    it = planner(pages=4)
    sequences = [added(it, 40, 100 * i) for i in range(6)]
    for _ in range(30):
        step(it)
    for sequence in sequences[:-1]:
        it.remove(sequence)
    before = len(sequences[-1].tokens)
    step(it)
    assert len(sequences[-1].tokens) == before + 1


def test_a_common_beginning_is_computed_once() -> None:
    it = planner()
    first = added(it, 70)
    step(it)
    step(it)
    second = added(it, 70)
    assert step(it) == [(70, 1), (64, 6)]
    assert (first.cached, second.cached) == (0, 64)


def test_the_next_turn_of_a_chat_finds_question_and_answer() -> None:
    it = planner()
    turn = added(it, 40)
    for _ in range(26):
        step(it)
    it.remove(turn)
    following = Sequence([*turn.tokens, *range(10)])
    it.add(following)
    step(it)
    assert following.cached == 64


def test_what_another_computes_meanwhile_is_not_computed_again() -> None:
    it = planner(pages=32)
    added(it, 90, 900)
    first, second = added(it, 100), added(it, 100)
    assert [step(it) for _ in range(3)] == [
        [(0, 64)],
        [(64, 26), (0, 38)],
        [(90, 1), (38, 62), (32, 1)],
    ]
    assert step(it) == [(91, 1), (100, 1), (96, 4)]
    assert (first.cached, second.cached) == (0, 95)


def test_without_reuse_all_is_computed() -> None:
    it = planner(reuse=False)
    added(it, 70)
    step(it)
    step(it)
    second = added(it, 70)
    step(it)
    assert second.cached == 0


class Model(RuleBasedStateMachine):
    """Any order of coming, going and computing, in a cache that is too small for all."""

    PAGES = 5

    def __init__(self) -> None:
        super().__init__()
        self.pages = Pages(self.PAGES)
        self.it = StepPlanner(self.pages, max_batch_tokens=ROOM, max_running=3)
        self.live: list[Sequence] = []
        self.slots: dict[tuple[int, int], list[int]] = {}
        """What was computed into a slot: the tokens up to and with its own."""

    @rule(length=st.integers(1, PAGES * PAGE_TOKENS - 1), first=st.integers(0, 1))
    def come(self, length: int, first: int) -> None:
        sequence = Sequence([first, *[5] * (length - 1)])
        self.live.append(sequence)
        self.it.add(sequence)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def leave(self, data: Any) -> None:
        self.it.remove(self.live.pop(data.draw(st.integers(0, len(self.live) - 1))))

    @precondition(lambda self: self.live)
    @rule(token=st.integers(4, 5), times=st.integers(1, 40))
    def compute(self, token: int, times: int) -> None:
        for _ in range(times):
            if not self.live:
                return
            self.step(token)

    def step(self, token: int) -> None:
        parts = self.it.plan()
        assert parts, "somebody can always go on"
        assert sum(part.count for part in parts) <= ROOM
        assert len({part.sequence for part in parts}) == len(parts) <= 3
        for part in parts:
            self.write(part)
        for part in parts:
            self.read(part)
        sampling = [part.sequence for part in parts if part.samples]
        self.it.advance(parts)
        for sequence in sampling:
            sequence.tokens.append(token)
            if len(sequence.tokens) == self.PAGES * PAGE_TOKENS:
                self.it.remove(sequence)
                self.live.remove(sequence)

    def write(self, part: StepPart) -> None:
        for position in range(part.start, part.end):
            slot = part.sequence.pages[position // PAGE_TOKENS], position % PAGE_TOKENS
            self.slots[slot] = part.sequence.tokens[: position + 1]

    def read(self, part: StepPart) -> None:
        """All that the new tokens see is the sequence's own past, after all have written."""
        for position in range(part.end):
            slot = part.sequence.pages[position // PAGE_TOKENS], position % PAGE_TOKENS
            assert self.slots[slot] == part.sequence.tokens[: position + 1]

    @invariant()
    def no_page_is_lost(self) -> None:
        held = {page for sequence in self.live for page in sequence.pages}
        assert self.pages.available == self.PAGES - len(held)

    @invariant()
    def pages_are_held_while_running(self) -> None:
        for sequence in self.live:
            assert sequence.running == bool(sequence.pages)
            assert len(sequence.pages) >= pages_for(sequence.computed)
        assert self.it.active == len(self.live)


TestModel = Model.TestCase
