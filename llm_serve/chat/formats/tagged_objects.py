"""Calls as JSON objects, each between two marks: Hermes, Qwen 2.5 and 3, and many after them."""

from __future__ import annotations

from dataclasses import dataclass

from llm_serve.chat.answer import Answer
from llm_serve.chat.formats.base import Functions
from llm_serve.chat.formats.calls import call_object, call_or_text, end_mark
from llm_serve.chat.grammar.lark import Lark
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
            if (yield from call_or_text(source, answer, self.begin, one, self.end)):
                yield from end_mark(source, answer, self.end)

    def guide(self, lark: Lark, functions: Functions, *, free: bool, parallel: bool) -> str:
        end = lark.literal("\n" + self.end)
        call = lark.either(
            f'"\\n" {lark.call_object(function)} {end}' for function in functions.values()
        )
        return lark.calls(self.begin, call, between="\n", free=free, parallel=parallel)
