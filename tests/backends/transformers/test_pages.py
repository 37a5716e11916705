"""No page is lost, given twice, or found under a beginning that it does not hold."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from llm_serve.backends.transformers.pages import PAGE_TOKENS, Pages

COUNT = 6


def text(*letters: int) -> list[int]:
    """One page of tokens for each letter."""
    return [letter for letter in letters for _ in range(PAGE_TOKENS)]


def written(pages: Pages, tokens: list[int]) -> list[int]:
    """The table of a sequence that has computed `tokens`, of which it found some."""
    table = pages.match([*tokens, 0])
    found = len(table)
    table += pages.take(len(tokens) // PAGE_TOKENS - found)
    for number in range(found, len(table)):
        pages.publish(table, number, tokens[number * PAGE_TOKENS : (number + 1) * PAGE_TOKENS])
    return table


def test_what_one_sequence_left_another_finds() -> None:
    pages = Pages(COUNT)
    table = written(pages, text(1, 2, 3))
    pages.give_back(table)
    assert pages.available == COUNT
    assert pages.match([*text(1, 2), 9]) == table[:2]
    assert pages.available == COUNT - 2


def test_the_last_token_is_never_found() -> None:
    pages = Pages(COUNT)
    table = written(pages, text(1, 2))
    assert pages.match(text(1, 2)) == table[:1]
    assert pages.match([*text(1, 2), 7]) == table


def test_equal_tokens_after_another_beginning_are_not_found() -> None:
    pages = Pages(COUNT)
    written(pages, text(1, 2))
    assert pages.match([*text(2), 9]) == []
    assert len(pages.match([*text(1, 1), 9])) == 1


def test_tokens_of_equal_hash_are_not_found() -> None:
    """-1 and -2 have one hash in CPython, and so have tuples of them."""
    pages = Pages(COUNT)
    assert hash(tuple(text(-1))) == hash(tuple(text(-2)))
    written(pages, text(-1))
    assert pages.match([*text(-2), 9]) == []


def test_the_page_left_longest_ago_goes_first_and_ends_before_beginnings() -> None:
    pages = Pages(COUNT)
    old, new = written(pages, text(1, 2)), written(pages, text(3, 4))
    pages.give_back(old)
    pages.give_back(new)
    pages.take(COUNT - 3)
    assert pages.match([*text(1, 2), 9]) == old[:1]
    assert pages.match([*text(3, 4), 9]) == new


def test_a_page_computed_twice_is_kept_once() -> None:
    pages = Pages(COUNT)
    mine, other = pages.take(2), pages.take(2)
    for table in (mine, other):
        for number, content in enumerate((text(1), text(2))):
            pages.publish(table, number, content)
    assert mine == other
    assert pages.available == COUNT - 2


def test_without_reuse_nothing_is_found() -> None:
    pages = Pages(COUNT, reuse=False)
    pages.give_back(written(pages, text(1, 2)))
    assert pages.match([*text(1, 2), 9]) == []
    assert len(pages.take(COUNT)) == COUNT


class Model(RuleBasedStateMachine):
    """Sequences of a few letters, and a memory of what each page was last written with."""

    def __init__(self) -> None:
        super().__init__()
        self.pages = Pages(COUNT)
        self.tables: list[list[int]] = []
        self.held: dict[int, int] = {}
        self.content: dict[int, tuple[int, ...]] = {}

    @rule(letters=st.lists(st.integers(1, 2), min_size=1, max_size=4), data=st.data())
    def begin(self, letters: list[int], data: Any) -> None:
        table = self.pages.match([*text(*letters), 0])
        for number, page in enumerate(table):
            assert self.content[page] == tuple(letters[: number + 1])
        missing = len(letters) - len(table)
        if missing > self.pages.available:
            self.pages.give_back(table)
            return
        fresh = self.pages.take(missing)
        assert 0 not in fresh
        assert not {*fresh} & {page for held in (*self.tables, table) for page in held}
        table += fresh
        for number in range(len(letters) - missing, len(letters)):
            letter = text(letters[number])
            if self.pages.adopt(table, number, letter):
                assert self.content[table[number]] == tuple(letters[: number + 1])
                continue
            self.content[table[number]] = tuple(letters[: number + 1])
            if data.draw(st.booleans()):
                break
            self.pages.publish(table, number, letter)
            assert self.content[table[number]] == tuple(letters[: number + 1])
        self.tables.append(table)

    @precondition(lambda self: self.tables)
    @rule(data=st.data())
    def end(self, data: Any) -> None:
        which = data.draw(st.integers(0, len(self.tables) - 1))
        self.pages.give_back(self.tables.pop(which))

    @invariant()
    def every_page_is_somewhere_once(self) -> None:
        held = {page for table in self.tables for page in table}
        assert self.pages.available == COUNT - len(held)

    @invariant()
    def what_is_published_can_be_found(self) -> None:
        """A page whose parent is gone would take room for nothing."""
        serials = {serial for _, serial in self.pages._published.values()}
        assert all(name[0] in {-1, *serials} for name, _ in self.pages._published.values())


TestModel = Model.TestCase
