"""Which pages of the KV cache belong to whom, and which hold a beginning that may come again.

A page has room for the keys and values of `PAGE_TOKENS` tokens. A full page is published under what
it holds; a sequence that begins with the same tokens takes it by reference. A published page that
nobody holds stays until its room is needed: the one that was left longest ago goes first.

What a page holds is its own tokens after those of the page before it. Its name is therefore the
pair of its parent's serial number and its tokens. Dictionaries compare both in full, and no serial
number is given twice, so equal names mean equal beginnings: no collision of hashes can make a
sequence read what another one wrote.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence as Tokens

PAGE_TOKENS = 32
"""A sequence takes whole pages; small ones waste little of a small cache."""
_ROOT = -1
"""The parent of a first page."""

Name = tuple[int, tuple[int, ...]]


def pages_for(tokens: int) -> int:
    """How many pages hold so many tokens."""
    return -(-tokens // PAGE_TOKENS)


class Pages:
    """Pages 1 to `count`. Page 0 is given to nobody: what pads a batch is read there."""

    def __init__(self, count: int, *, reuse: bool = True) -> None:
        self._reuse = reuse
        self._free = list(range(count, 0, -1))
        self._holders: dict[int, int] = {}
        """How many sequences hold a page, for those that are held."""
        self._idle: dict[int, None] = {}
        """Published pages that nobody holds, the one that was left longest ago first."""
        self._by_name: dict[Name, int] = {}
        self._published: dict[int, tuple[Name, int]] = {}
        """The name and the serial number of every published page."""
        self._serials = itertools.count()

    @property
    def available(self) -> int:
        """Pages that `take` can give."""
        return len(self._free) + len(self._idle)

    def take(self, count: int) -> list[int]:
        """So many pages for one holder; at most `available`."""
        taken = [self._free.pop() if self._free else self._evict() for _ in range(count)]
        self._holders.update(dict.fromkeys(taken, 1))
        return taken

    def give_back(self, table: Tokens[int]) -> None:
        """Ends one holder's claim to its pages. The last one is left first: a page is then never
        evicted before those that follow on it, which could not be found without it."""
        for page in reversed(table):
            self._holders[page] -= 1
            if not self._holders[page]:
                del self._holders[page]
                if page in self._published:
                    self._idle[page] = None
                else:
                    self._free.append(page)

    def match(self, tokens: Tokens[int]) -> list[int]:
        """The published pages that `tokens` begin with, held for the caller. The last token is
        never among them: it must be computed, to know what follows it."""
        table: list[int] = []
        for start in range(0, len(tokens) - PAGE_TOKENS, PAGE_TOKENS):
            page = self._find(table, len(table), tokens[start : start + PAGE_TOKENS])
            if page is None:
                break
            self._hold(page)
            table.append(page)
        return table

    def adopt(self, table: list[int], number: int, content: Tokens[int]) -> bool:
        """Puts a published page in the place of the caller's own, not yet full one, if one has
        `content` after the pages before it in `table`, which must all be published."""
        page = self._find(table, number, content)
        if page is None or page == table[number]:
            return False
        self._replace(table, number, page)
        return True

    def publish(self, table: list[int], number: int, content: Tokens[int]) -> None:
        """Names a full page after what it holds. Where another page has that name already, it takes
        the place of this one in `table`, so that all pages of a table are published ones."""
        if not self._reuse:
            return
        page, known = table[number], self._find(table, number, content)
        if known is None:
            name = self._name(table, number, content)
            self._by_name[name] = page
            self._published[page] = name, next(self._serials)
        elif known != page:
            self._replace(table, number, known)

    def _name(self, table: Tokens[int], number: int, content: Tokens[int]) -> Name:
        parent = self._published[table[number - 1]][1] if number else _ROOT
        return parent, tuple(content)

    def _find(self, table: Tokens[int], number: int, content: Tokens[int]) -> int | None:
        return self._by_name.get(self._name(table, number, content)) if self._reuse else None

    def _replace(self, table: list[int], number: int, page: int) -> None:
        self._hold(page)
        self.give_back([table[number]])
        table[number] = page

    def _hold(self, page: int) -> None:
        self._idle.pop(page, None)
        self._holders[page] = self._holders.get(page, 0) + 1

    def _evict(self) -> int:
        page = next(iter(self._idle))
        del self._idle[page]
        name, _ = self._published.pop(page)
        del self._by_name[name]
        return page
