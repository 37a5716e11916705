"""What formats share: calls as JSON objects, alone or in a list; what becomes of broken ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection

from llm_serve.chat.answer import Answer
from llm_serve.chat.source import Give, Reading, Source

_ARGUMENTS = ("arguments", "parameters")
_USUAL = ("name", "type", "id", *_ARGUMENTS)
"""Keys of a call. An object with others is one only between marks."""


def call_or_text(
    source: Source, answer: Answer, mark: str, read: Callable[[], Reading[bool]], end: str = ""
) -> Reading[bool]:
    """Runs `read`, the reader of one call, and returns whether it found a whole one.

    Where it found none, what it read is text, and `mark` before it. A call that was begun stays
    one: what is left of it, to the mark `end` or to the end of all, goes into its arguments, broken
    as they are.
    """
    calls = answer.calls
    record = source.record()
    whole = yield from read()
    source.forget(record)
    if not whole and answer.calls == calls:
        answer.text(mark + "".join(record))
    elif not whole and end:
        yield from source.until((end,), answer.arguments)
    elif not whole:
        yield from source.rest(answer.arguments)
    return whole


def end_mark(source: Source, answer: Answer, mark: str) -> Reading[None]:
    """Reads the mark after a call, if it is there."""
    space = yield from source.space()
    if not (yield from source.skip(mark, cut=True)):
        answer.text(space)


def call_list(
    source: Source, answer: Answer, mark: str, names: Collection[str] | None = None
) -> Reading[bool]:
    """`[{"name": ..., "arguments": {...}}, ...]` after a mark; False where it is not, or broken."""
    before, between = mark, "["
    while True:

        def one(between: str = between) -> Reading[bool]:
            yield from source.space()
            if between == "[" and not (yield from source.skip("[")):
                return False
            yield from source.space()
            return (yield from call_object(source, answer, names))

        if not (yield from call_or_text(source, answer, before, one)):
            return False
        space = yield from source.space()
        if (yield from source.skip("]")):
            return True
        if not (yield from source.skip(",")):
            answer.text(space)
            return False
        before = between = ","


def call_object(
    source: Source, answer: Answer, names: Collection[str] | None = None
) -> Reading[bool]:
    """`{"name": ..., "arguments": {...}}`, its keys in any order; `parameters` is `arguments`.

    The arguments are passed on as they are read once the name is known. False where it is no such
    object, or names none of `names`; without them, any name and more keys will do.
    """
    name: str | None = None
    early: list[str] = []  # arguments that came before the name
    begun = False
    if not (yield from source.skip("{")):
        return False
    while True:
        yield from source.space()
        key = yield from _text(source)
        yield from source.space()
        if key is None or not (yield from source.skip(":")):
            return False
        if names is not None and key not in _USUAL:
            return False
        yield from source.space()
        if key == "name" and name is None:
            name = yield from _text(source)
            if not name or (names is not None and name not in names):
                return False
        elif key in _ARGUMENTS and not begun and not early:
            if name is None:
                whole = yield from _arguments(source, early.append)
            else:
                answer.begin_call(name)
                begun = True
                whole = yield from _arguments(source, answer.arguments)
            if not whole:
                return False
        elif not (yield from source.value(_drop)):
            return False
        yield from source.space()
        if (yield from source.skip("}")):
            break
        if not (yield from source.skip(",")):
            return False
    if name is None:
        return False
    if not begun:
        answer.begin_call(name)
        answer.arguments("".join(early) or "{}")
    return True


def _drop(piece: str) -> None:
    """What is read here is nobody's."""


def _text(source: Source) -> Reading[str | None]:
    """A JSON string, decoded."""
    pieces: list[str] = []
    if not (yield from source.string(pieces.append)):
        return None
    try:
        return str(json.loads("".join(pieces), strict=False))
    except ValueError:
        return None


def _arguments(source: Source, give: Give) -> Reading[bool]:
    """An object as it is written. Some models write it into a string, or null for none."""
    first = yield from source.peek()
    if first == "{":
        return (yield from source.value(give))
    if first == '"':
        text = yield from _text(source)
        if text is not None:
            give(text or "{}")
        return text is not None
    pieces: list[str] = []
    if not (yield from source.value(pieces.append)):
        return False
    text = "".join(pieces)
    give("{}" if text == "null" else text)
    return True
