"""Mistral's format, in both of its forms."""

from __future__ import annotations

import re
from dataclasses import dataclass

from llm_serve.chat.answer import Answer
from llm_serve.chat.formats.base import Functions
from llm_serve.chat.formats.calls import call_list, call_object, call_or_text
from llm_serve.chat.grammar.lark import Lark
from llm_serve.chat.source import Reading, Source

_BEGIN, _ID, _ARGUMENTS = "[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"
_NAME = re.compile(r"[\w.-]*")


@dataclass(frozen=True)
class Mistral:
    """`[TOOL_CALLS] [{"name": ..., "arguments": {...}}, ...]`, and since the eleventh tokenizer
    `[TOOL_CALLS]name[ARGS]{...}` for each call."""

    @property
    def marks(self) -> tuple[str, ...]:
        return _BEGIN, _ID, _ARGUMENTS

    def read(self, source: Source, answer: Answer, functions: Functions) -> Reading[None]:
        def one() -> Reading[bool]:
            yield from source.space()
            if (yield from source.peek()) == "{":
                return (yield from call_object(source, answer))
            name = yield from source.run(_NAME)
            if (yield from source.skip(_ID)):
                yield from source.run(_NAME)
            yield from source.skip(_ARGUMENTS)
            yield from source.space()
            if not name or (yield from source.peek()) != "{":
                return False
            answer.begin_call(name)
            return (yield from source.value(answer.arguments))

        while (yield from source.until((_BEGIN,), answer.text)) is not None:
            space = yield from source.space()
            if (yield from source.peek()) == "[":
                yield from call_list(source, answer, _BEGIN + space)
            else:
                yield from call_or_text(source, answer, _BEGIN + space, one)

    def guide(self, lark: Lark, functions: Functions, *, free: bool, parallel: bool) -> str:
        if not lark.is_token(_ARGUMENTS):
            calls = f'" "? {lark.call_list(functions.values(), parallel=parallel)}'
            return lark.calls(_BEGIN, calls, between="", free=free, parallel=False)
        call = lark.either(
            f"{lark.literal(function['name'] + _ARGUMENTS)} {lark.arguments(function)}"
            for function in functions.values()
        )
        return lark.calls(_BEGIN, call, between="", free=free, parallel=parallel)
