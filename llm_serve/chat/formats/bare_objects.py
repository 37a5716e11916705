"""A call as a JSON object that is the whole answer: Llama 3 and 4."""

from __future__ import annotations

import re
from dataclasses import dataclass

from llm_serve.chat.answer import Answer
from llm_serve.chat.formats.base import Functions
from llm_serve.chat.formats.calls import call_object, call_or_text
from llm_serve.chat.grammar.lark import Lark
from llm_serve.chat.source import Reading, Source

_TAG = "<|python_tag|>"


@dataclass(frozen=True)
class BareObjects:
    """`{"name": ..., "parameters": {...}}` at the begin of an answer, perhaps after a mark, and
    `; ` before more of them.

    Only an object that names one of the functions is a call: an answer may be another object. The
    models were taught one call an answer, so a guide allows no more.
    """

    @property
    def marks(self) -> tuple[str, ...]:
        return (_TAG,)

    def read(self, source: Source, answer: Answer, functions: Functions) -> Reading[None]:
        def one() -> Reading[bool]:
            yield from source.space()
            return (yield from call_object(source, answer, functions))

        before = yield from source.space()
        if (yield from source.skip(_TAG)):
            before += _TAG
        while (yield from call_or_text(source, answer, before, one)):
            before = yield from source.space()
            if (yield from source.skip(";")):
                before += ";"
            elif (yield from source.peek()) != "{":
                answer.text(before)
                break
        yield from source.rest(answer.text)

    def guide(self, lark: Lark, functions: Functions, *, free: bool, parallel: bool) -> str:
        call = lark.either(lark.call_object(f, "parameters") for f in functions.values())
        if lark.is_token(_TAG):
            call = f"{lark.literal(_TAG)}? {call}"
        if not free:
            return lark.rule(call)
        names = "|".join(re.escape(name) for name in functions)
        return lark.either([call, lark.text_but(rf'\{{"name": "({names})"')])
