"""Calls as a list of Python's calls: Llama 3.2 and 4, ToolACE; between marks: LFM 2."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from llm_serve.chat.answer import Answer
from llm_serve.chat.formats.base import Functions
from llm_serve.chat.formats.calls import call_or_text, end_mark
from llm_serve.chat.formats.python_values import python_value
from llm_serve.chat.grammar.arguments import Parameter, listed_parameters
from llm_serve.chat.grammar.lark import Lark
from llm_serve.chat.source import Reading, Source

_NAME = re.compile(r"[\w.-]*")
_KEY = re.compile(r"\w*")


@dataclass(frozen=True)
class Pythonic:
    """`[f(a=1, b="x"), g()]` as the whole answer, its values Python's literals or JSON.

    Only a list that begins with one of the functions is one of calls. A guide demands
    `f(**{...})`, with all arguments as JSON, where the parameters of a function are no plain list.
    """

    begin: str = "<|python_start|>"
    """Some models write it before the list, and `end` after it."""
    end: str = "<|python_end|>"

    @property
    def marks(self) -> tuple[str, ...]:
        return self.begin, self.end

    def read(self, source: Source, answer: Answer, functions: Functions) -> Reading[None]:
        before = yield from source.space()
        if (yield from source.skip(self.begin)):
            before += self.begin
        if (yield from _list(source, answer, functions, before)):
            yield from source.skip(self.end, cut=True)
        yield from source.rest(answer.text)

    def guide(self, lark: Lark, functions: Functions, *, free: bool, parallel: bool) -> str:
        calls = _list_rule(lark, functions, parallel=parallel)
        if lark.is_token(self.begin):
            calls = f"{lark.literal(self.begin)} {calls} {lark.literal(self.end)} | {calls}"
        calls = lark.rule(calls)
        if not free:
            return calls
        names = "|".join(re.escape(name) for name in functions)
        return lark.either([calls, lark.text_but(rf"\[({names})\(")])


@dataclass(frozen=True)
class TaggedPythonic:
    """Such a list between two marks."""

    begin: str
    end: str

    @property
    def marks(self) -> tuple[str, ...]:
        return self.begin, self.end

    def read(self, source: Source, answer: Answer, functions: Functions) -> Reading[None]:
        while mark := (yield from source.until((self.begin,), answer.text)):
            if (yield from _list(source, answer, functions, mark)):
                yield from end_mark(source, answer, self.end)

    def guide(self, lark: Lark, functions: Functions, *, free: bool, parallel: bool) -> str:
        calls = f"{_list_rule(lark, functions, parallel=parallel)} {lark.literal(self.end)}"
        return lark.calls(self.begin, calls, between="", free=free, parallel=False)


def _list(source: Source, answer: Answer, functions: Functions, before: str) -> Reading[bool]:
    """Calls in a list; False where it is none, or broken. `before` was read before it."""
    opening = "["
    while True:

        def one(opening: str = opening) -> Reading[bool]:
            yield from source.space()
            if not (yield from source.skip(opening)):
                return False
            yield from source.space()
            return (yield from _call(source, answer, functions))

        if not (yield from call_or_text(source, answer, before, one)):
            return False
        before = yield from source.space()
        if (yield from source.skip("]")):
            return True
        opening = ","
        if (yield from source.peek()) != ",":
            answer.text(before)
            return False


def _call(source: Source, answer: Answer, functions: Functions) -> Reading[bool]:
    name = yield from source.run(_NAME)
    if name not in functions or not (yield from source.skip("(")):
        return False
    answer.begin_call(name)
    before = "{"
    while True:
        yield from source.space()
        if (yield from source.skip(")")):
            answer.arguments("{}" if before == "{" else "}")
            return True
        if before == "{" and (yield from source.skip("**")):
            value = yield from python_value(source)
            if value is None or not (yield from source.skip(")")):
                return False
            answer.arguments(value)
            return True
        key = yield from source.run(_KEY)
        yield from source.space()
        if not key or not (yield from source.skip("=")):
            return False
        value = yield from python_value(source)
        if value is None:
            return False
        answer.arguments(f"{before}{json.dumps(key)}: {value}")
        before = ", "
        yield from source.skip(",")


def _list_rule(lark: Lark, functions: Functions, *, parallel: bool) -> str:
    # It begins with one literal, which ends where free text may go on no longer: the longest wins.
    first = lark.either(_rule(lark, function, "[") for function in functions.values())
    call = lark.either(_rule(lark, function, "") for function in functions.values())
    more = f'(", " {call})*' if parallel else ""
    return lark.rule(f'{first} {more} "]"')


def _rule(lark: Lark, function: dict[str, Any], before: str) -> str:
    parameters = listed_parameters(function)
    if parameters is None or not all(p.name.isidentifier() for p in parameters):
        head = lark.literal(f"{before}{function['name']}(")
        return f'{head} "**" {lark.arguments(function)} ")"'
    lenient = not function.get("strict")
    values = [_keyword(lark, parameter, lenient) for parameter in parameters]
    # Whichever comes first, those after it have a comma before them.
    tails = [""]
    for parameter, value in reversed(list(zip(parameters, values, strict=True))):
        one = f'(", " {value})' if parameter.required else f'(", " {value})?'
        tails.insert(0, lark.rule(f"{one} {tails[0]}"))
    firsts = []
    for place, parameter in enumerate(parameters):
        firsts.append(f"{values[place]} {tails[place + 1]}")
        if parameter.required:
            break
    else:
        firsts.append('""')
    return f'{lark.literal(before + function["name"] + "(")} {lark.either(firsts)} ")"'


def _keyword(lark: Lark, parameter: Parameter, lenient: bool) -> str:
    if parameter.schema.get("type") == "boolean" and "enum" not in parameter.schema:
        value = '("True" | "False")'
    else:
        value = lark.json(parameter.schema, lenient=lenient)
    return f"{lark.literal(parameter.name + '=')} {value}"
