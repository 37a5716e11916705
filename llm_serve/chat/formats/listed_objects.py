"""Calls as one JSON list of objects after a mark: Granite 3, Phi 4 mini, Jamba, and plain lists."""

from __future__ import annotations

from dataclasses import dataclass

from llm_serve.chat.answer import Answer
from llm_serve.chat.formats.base import CallFormat, Functions
from llm_serve.chat.formats.calls import call_list, end_mark
from llm_serve.chat.grammar.lark import Lark
from llm_serve.chat.source import Reading, Source


@dataclass(frozen=True)
class ListedObjects:
    """`[{"name": ..., "arguments": {...}}, ...]` after the first of `begins`."""

    begins: tuple[str, ...]
    end: str = ""

    @property
    def marks(self) -> tuple[str, ...]:
        return (*self.begins, *((self.end,) if self.end else ()))

    def read(self, source: Source, answer: Answer, functions: Functions) -> Reading[None]:
        while (mark := (yield from source.until(self.begins, answer.text))) is not None:
            if (yield from call_list(source, answer, mark)) and self.end:
                yield from end_mark(source, answer, self.end)

    def guide(self, lark: Lark, functions: Functions, *, free: bool, parallel: bool) -> str:
        calls = lark.call_list(functions.values(), parallel=parallel)
        end = lark.literal(self.end) if self.end else ""
        return lark.calls(self.begins[0], f"{calls} {end}", between="", free=free, parallel=False)


@dataclass(frozen=True)
class ListOr:
    """A JSON list of calls as the whole answer, or an answer in another format.

    For engines that can be held to JSON Schemas alone: required calls are such a list.
    """

    other: CallFormat

    @property
    def marks(self) -> tuple[str, ...]:
        return self.other.marks

    def read(self, source: Source, answer: Answer, functions: Functions) -> Reading[None]:
        space = yield from source.space()
        if (yield from source.peek()) == "[":
            yield from call_list(source, answer, space, functions)
        else:
            answer.text(space)
        yield from self.other.read(source, answer, functions)

    def guide(self, lark: Lark, functions: Functions, *, free: bool, parallel: bool) -> str | None:
        return self.other.guide(lark, functions, free=free, parallel=parallel)
