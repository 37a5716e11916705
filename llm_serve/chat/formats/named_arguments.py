"""Calls as a name and its arguments between marks, all of them within two more: DeepSeek."""

from __future__ import annotations

import re
from dataclasses import dataclass

from llm_serve.chat.answer import Answer
from llm_serve.chat.formats.base import Functions
from llm_serve.chat.formats.calls import call_or_text, end_mark
from llm_serve.chat.grammar.lark import Lark
from llm_serve.chat.source import Reading, Source

_BEGIN, _END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
_CALL, _CALL_END = "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"
_SEP = "<｜tool▁sep｜>"
_NAME = re.compile(r"[\w.-]*")


@dataclass(frozen=True)
class NamedArguments:
    """Of each call: what is before its name, the name, what is between the name and the arguments,
    the arguments, and what is after them."""

    before: str = ""
    between: str = _SEP
    after: str = ""

    @property
    def marks(self) -> tuple[str, ...]:
        return _BEGIN, _END, _CALL, _CALL_END, _SEP

    def read(self, source: Source, answer: Answer, functions: Functions) -> Reading[None]:
        def one() -> Reading[bool]:
            if not (yield from source.skip(self.before)):
                return False
            name = yield from source.run(_NAME)
            if not name or not (yield from source.skip(self.between)):
                return False
            yield from source.space()
            if (yield from source.peek()) != "{":
                return False
            answer.begin_call(name)
            return (yield from source.value(answer.arguments))

        begin = ""
        while mark := (yield from source.until((_BEGIN, _CALL, _END), answer.text)):
            begin = mark if mark == _BEGIN else begin
            if mark == _CALL:
                if (yield from call_or_text(source, answer, begin + mark, one, _CALL_END)):
                    yield from end_mark(source, answer, self.after.strip() + _CALL_END)
                begin = ""

    def guide(self, lark: Lark, functions: Functions, *, free: bool, parallel: bool) -> str:
        end = lark.literal(self.after + _CALL_END)
        call = lark.either(
            f"{lark.literal(_CALL + self.before + function['name'] + self.between)} "
            f"{lark.arguments(function)} {end}"
            for function in functions.values()
        )
        more = f'("\\n"? {call})*' if parallel else ""
        calls = f"{call} {more} {lark.literal(_END)}"
        return lark.calls(_BEGIN, calls, between="", free=free, parallel=False)


DEEPSEEK_V3 = NamedArguments(f"function{_SEP}", "\n```json\n", "\n```")
DEEPSEEK_V31 = NamedArguments()
