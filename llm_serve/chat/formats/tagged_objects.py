"""Calls as JSON objects, each between two marks: Hermes, Qwen 2.5 and 3, and many after them."""

from __future__ import annotations

from dataclasses import dataclass

from llm_serve.chat.answer import Answer
from llm_serve.chat.formats.base import Functions
from llm_serve.chat.formats.calls import call_object, given_back
from llm_serve.chat.lark import Lark
from llm_serve.chat.source import Reading, Source


@dataclass(frozen=True)
class TaggedObjects:
    r"""`<tool_call>\n{"name": ..., "arguments": {...}}\n</tool_call>`, once for each call."""

    begin: str = "<tool_call>"
    end: str = "</tool_call>"

    @property
    def marks(self) -> tuple[str, ...]:
        return self.begin, self.end

    def read(self, source: Source, answer: Answer, functions: Functions) -> Reading[None]:
        def one() -> Reading[bool]:
            yield from source.space()
            return (yield from call_object(source, answer))

        while (yield from source.until((self.begin,), answer.text)) is not None:
            begun = answer.calls
            if (yield from given_back(source, answer, self.begin, one)):
                space = yield from source.space()
                if not (yield from source.skip(self.end, cut=True)):
                    answer.text(space)
            elif answer.calls > begun:
                yield from source.until((self.end,), answer.arguments)

    def guide(self, lark: Lark, functions: Functions, *, free: bool, parallel: bool) -> str | None:
        end = lark.literal("\n") + " " + lark.mark(self.end)
        call = lark.either(
            f"{lark.literal(chr(10))} {lark.call_object(function)} {end}"
            for function in functions.values()
        )
        return lark.calls(
            self.begin, call, between=lark.literal("\n"), free=free, parallel=parallel
        )
