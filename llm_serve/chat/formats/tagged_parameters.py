"""Calls with a tag for each parameter: Qwen 3 Coder, Seed OSS, GLM 4."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from llm_serve.chat.answer import Answer
from llm_serve.chat.formats.base import Functions
from llm_serve.chat.formats.calls import call_object, call_or_text, end_mark
from llm_serve.chat.grammar.arguments import (
    Parameter,
    choices,
    is_text,
    listed_parameters,
    parameter_schema,
)
from llm_serve.chat.grammar.lark import Lark
from llm_serve.chat.source import Reading, Source

_NAME = re.compile(r"[\w.-]*")
_CONSTRAINING = frozenset({"pattern", "minLength", "maxLength", "$ref", "anyOf", "oneOf", "allOf"})


@dataclass(frozen=True)
class TaggedParameters:
    """The texts of a call in their order; white space in them is how models lay it out, and not
    needed to read it.

    A value that the function's schema says is text is written as it is, any other as JSON. A guide
    demands the call as a JSON object with `name` and `arguments` between `begin` and `end` where
    the parameters of a function are no plain list, or text is held to more than a choice; such an
    object is always read.
    """

    begin: str
    head: str
    """Before the name of the function."""
    head_end: str
    key: str
    """Before the name of a parameter."""
    key_end: str
    value_end: str
    foot: str
    end: str

    @property
    def marks(self) -> tuple[str, ...]:
        return self.begin, self.end

    def read(self, source: Source, answer: Answer, functions: Functions) -> Reading[None]:
        head = self.head.strip()
        marks = (self.begin, head) if head else (self.begin,)  # models leave out `begin` at times
        while mark := (yield from source.until(marks, answer.text)):

            def one(inside: bool = mark != self.begin) -> Reading[bool]:
                return (yield from self._call(source, answer, functions, inside))

            if (yield from call_or_text(source, answer, mark, one, self.end)):
                yield from end_mark(source, answer, self.end)

    def _call(
        self, source: Source, answer: Answer, functions: Functions, inside: bool
    ) -> Reading[bool]:
        """`inside`: the head was read."""
        if not inside:
            yield from source.space()
            if (yield from source.peek()) == "{":
                return (yield from call_object(source, answer))
            if not (yield from source.skip(self.head.strip())):
                return False
        name = yield from source.run(_NAME)
        if not name or not (yield from source.skip(self.head_end.strip())):
            return False
        answer.begin_call(name)
        before = "{"
        yield from source.space()
        while (yield from source.skip(self.key)):
            parameter, value = yield from self._parameter(source)
            if value is None:
                return False
            written = _as_json(value, parameter_schema(functions.get(name), parameter))
            answer.arguments(f"{before}{json.dumps(parameter)}: {written}")
            before = ", "
            yield from source.space()
        ended = yield from source.skip(self.foot.strip())
        if not ended and (yield from source.peek(len(self.end))) != self.end:
            return False
        answer.arguments("{}" if before == "{" else "}")
        return True

    def _parameter(self, source: Source) -> Reading[tuple[str, str | None]]:
        """The name of a parameter and its value; None where the text ended before."""
        name: list[str] = []
        value: list[str] = []
        first, *others = self.key_end.split()
        yield from source.until((first,), name.append)
        for mark in others:
            yield from source.space()
            yield from source.skip(mark)
        whole = yield from source.until((self.value_end.strip(),), value.append)
        text = "".join(value)
        if self._framed:
            text = text.removeprefix("\n").removesuffix("\n")
        return "".join(name).strip(), None if whole is None else text

    @property
    def _framed(self) -> bool:
        """Whether a value has lines of its own."""
        return self.key_end.endswith("\n")

    def guide(self, lark: Lark, functions: Functions, *, free: bool, parallel: bool) -> str:
        call = lark.either(self._rule(lark, function) for function in functions.values())
        return lark.calls(self.begin, call, between="\n", free=free, parallel=parallel)

    def _rule(self, lark: Lark, function: dict[str, Any]) -> str:
        parameters = listed_parameters(function)
        if parameters is None or any(map(_constrained, parameters)):
            end = lark.literal("\n" + self.end)
            return f'"\\n" {lark.call_object(function)} {end}'
        lenient = not function.get("strict")
        parts = [lark.literal(self.head + function["name"] + self.head_end)]
        for parameter in parameters:
            rule = self._value(lark, parameter, lenient)
            parts.append(rule if parameter.required else f"{rule}?")
        return " ".join([*parts, lark.literal(self.foot + self.end)])

    def _value(self, lark: Lark, parameter: Parameter, lenient: bool) -> str:
        head = lark.literal(self.key + parameter.name + self.key_end)
        end = lark.literal(self.value_end)
        if not is_text(parameter.schema):
            value = f"{lark.json(parameter.schema, lenient=lenient)} {end}"
        elif (texts := choices(parameter.schema)) is not None:
            value = f"{lark.either(map(lark.literal, texts))} {end}"
        else:
            mark = self.value_end.strip()
            value = f"{lark.until(mark)} {lark.literal(self.value_end.partition(mark)[2])}"
        return lark.rule(f"{head} {value}")


def _constrained(parameter: Parameter) -> bool:
    """Whether this is text that is held to something but a choice."""
    listed = choices(parameter.schema) is not None
    return (
        is_text(parameter.schema) and not listed and not _CONSTRAINING.isdisjoint(parameter.schema)
    )


def _as_json(value: str, schema: dict[str, Any]) -> str:
    """The value as JSON: as it is written where it is that already and need not be text."""
    if not is_text(schema):
        try:
            json.loads(value, parse_constant=_refuse)
        except (ValueError, RecursionError):
            word = value.strip().lower()
            if word in ("true", "false", "null", "none"):  # as Python writes them
                return word.replace("none", "null")
        else:
            return value.strip()
    return json.dumps(value, ensure_ascii=False)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


QWEN3_CODER = TaggedParameters(
    begin="<tool_call>",
    head="\n<function=",
    head_end=">\n",
    key="<parameter=",
    key_end=">\n",
    value_end="\n</parameter>\n",
    foot="</function>\n",
    end="</tool_call>",
)
SEED_OSS = TaggedParameters(
    begin="<seed:tool_call>",
    head="\n<function=",
    head_end=">\n",
    key="<parameter=",
    key_end=">",
    value_end="</parameter>\n",
    foot="</function>\n",
    end="</seed:tool_call>",
)
GLM45 = TaggedParameters(
    begin="<tool_call>",
    head="",
    head_end="\n",
    key="<arg_key>",
    key_end="</arg_key>\n<arg_value>",
    value_end="</arg_value>\n",
    foot="",
    end="</tool_call>",
)
