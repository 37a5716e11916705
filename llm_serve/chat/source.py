"""Text that arrives in pieces, and readers of it that wait in the middle of what they read.

A reader is a generator: it yields where it needs more text and is resumed once there is some. What
it reads depends on the text alone, never on how it was cut, and each character is looked at a
bounded number of times.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from functools import cache
from typing import TypeVar

T = TypeVar("T")
Reading = Generator[None, None, T]
"""A reader that comes to a `T`."""
Give = Callable[[str], None]
"""Takes a piece of what is read, as soon as it is certain."""

_SPACE = re.compile(r"\s*")
_SCALAR = re.compile(r"[\w.+-]*")
_STRING = re.compile(r'(?:[^"\\]|\\.)*', re.DOTALL)
_BETWEEN = re.compile(r'[^"{}\[\]]*')
_CLOSES = {"}": "{", "]": "["}
MAX_DEPTH = 200
"""Brackets within brackets; what is deeper is no call."""


class Source:
    """The text so far that nobody has read. `ended` says that no more will come."""

    def __init__(self) -> None:
        self.ended = False
        self._text = ""
        self._at = 0
        self._records: list[list[str]] = []

    def push(self, text: str) -> None:
        self._text = self._text[self._at :] + text
        self._at = 0

    def record(self) -> list[str]:
        """A list that all text read from now on is added to, until `forget`."""
        self._records.append([])
        return self._records[-1]

    def forget(self, record: list[str]) -> None:
        self._records = [kept for kept in self._records if kept is not record]

    def _take(self, end: int) -> str:
        piece = self._text[self._at : end]
        self._at = end
        for record in self._records:
            record.append(piece)
        return piece

    def peek(self, count: int = 1) -> Reading[str]:
        """The next `count` characters without reading them; fewer where the text ends."""
        while len(self._text) - self._at < count and not self.ended:
            yield
        return self._text[self._at : self._at + count]

    def take(self, count: int) -> Reading[str]:
        yield from self.peek(count)
        return self._take(min(self._at + count, len(self._text)))

    def skip(self, literal: str, *, cut: bool = False) -> Reading[bool]:
        """Reads `literal` if it comes next. Decided at the first character that differs.

        With `cut`, so does the begin of `literal` that the text ends with.
        """
        for count in range(1, len(literal) + 1):
            found = yield from self.peek(count)
            if found != literal[:count]:
                if not (cut and 0 < len(found) < count):
                    return False
                literal = found
                break
        self._take(self._at + len(literal))
        return True

    def run(self, pattern: re.Pattern[str]) -> Reading[str]:
        """All that comes next of a pattern that matches any prefix of what it matches."""
        pieces = []
        while True:
            found = pattern.match(self._text, self._at)
            end = found.end() if found else self._at
            pieces.append(self._take(end))
            if end < len(self._text) or self.ended:
                return "".join(pieces)
            yield

    def space(self) -> Reading[str]:
        return (yield from self.run(_SPACE))

    def rest(self, give: Give) -> Reading[None]:
        """All that is left."""
        while True:
            if self._at < len(self._text):
                give(self._take(len(self._text)))
            if self.ended:
                return
            yield

    def until(self, marks: tuple[str, ...], give: Give) -> Reading[str | None]:
        """Gives what is before the first of `marks`, and reads the mark.

        The mark is None where the text ended without one. What may yet become a mark is held back.
        """
        pattern = _any_of(marks)
        longest = max(map(len, marks))
        while True:
            if found := pattern.search(self._text, self._at):
                if found.start() > self._at:
                    give(self._take(found.start()))
                self._take(found.end())
                return found[0]
            end = len(self._text)
            if not self.ended:
                end -= _overlap(self._text, max(self._at, end - longest + 1), marks)
            if end > self._at:
                give(self._take(end))
            if self.ended:
                return None
            yield

    def string(self, give: Give) -> Reading[bool]:
        """A JSON string with its quotes, as it is written. False where there is none, or no end."""
        if not (yield from self.skip('"')):
            return False
        give('"')
        while True:
            found = _STRING.match(self._text, self._at)
            if found and found.end() > self._at:
                give(self._take(found.end()))
            if (yield from self.peek()) == '"':
                give(self._take(self._at + 1))
                return True
            if self._text[self._at :] == "\\":  # its second half has not come
                yield from self.peek(2)
            if self.ended and len(self._text) - self._at < 2:
                yield from self.rest(give)
                return False

    def value(self, give: Give) -> Reading[bool]:
        """A JSON value as it is written, up to the brackets that close it.

        False where the text ends before it does, or its brackets do not match; what was given until
        then stays given. More is not checked: this is not a validator.
        """
        first = yield from self.peek()
        if first == '"':
            return (yield from self.string(give))
        if first not in ("{", "["):
            scalar = yield from self.run(_SCALAR)
            give(scalar)
            return bool(scalar)
        open_brackets: list[str] = []
        while True:
            if between := (yield from self.run(_BETWEEN)):
                give(between)
            char = yield from self.peek()
            if not char:
                return False
            if char == '"':
                if not (yield from self.string(give)):
                    return False
                continue
            if char in _CLOSES:
                if open_brackets.pop() != _CLOSES[char]:
                    return False
            else:
                open_brackets.append(char)
            give(self._take(self._at + 1))
            if not open_brackets:
                return True
            if len(open_brackets) > MAX_DEPTH:
                return False


@cache
def _any_of(marks: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, sorted(marks, key=len, reverse=True))))


def _overlap(text: str, start: int, marks: tuple[str, ...]) -> int:
    """How many characters at the end of `text`, from `start` on, may be the begin of a mark."""
    for at in range(start, len(text)):
        tail = text[at:]
        if any(mark.startswith(tail) for mark in marks):
            return len(text) - at
    return 0
