"""Calls as a list of Python's calls that is the whole answer: Llama 3.2 and 4, ToolACE."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import dataclass
from typing import Any

from llm_serve.chat.answer import Answer
from llm_serve.chat.formats.base import Functions
from llm_serve.chat.formats.calls import call_or_text
from llm_serve.chat.grammar.arguments import Parameter, listed_parameters
from llm_serve.chat.grammar.lark import Lark
from llm_serve.chat.source import MAX_DEPTH, Reading, Source

_BEGIN, _END = "<|python_start|>", "<|python_end|>"
_NAME = re.compile(r"[\w.-]*")
_KEY = re.compile(r"\w*")
_BETWEEN = re.compile(r"""[^"'()\[\]{},]*""")
_QUOTED = {
    '"': re.compile(r'(?:[^"\\]|\\.)*', re.DOTALL),
    "'": re.compile(r"(?:[^'\\]|\\.)*", re.DOTALL),
}
_CLOSES = {")": "(", "]": "[", "}": "{"}
_JSON_NAMES: dict[str, Any] = {"true": True, "false": False, "null": None}


@dataclass(frozen=True)
class Pythonic:
    """`[f(a=1, b="x"), g()]`, its values Python's literals or JSON.

    Only a list that begins with one of the functions is one of calls. A guide demands
    `f(**{...})`, with all arguments as JSON, where the parameters of a function are no plain list.
    """

    @property
    def marks(self) -> tuple[str, ...]:
        return _BEGIN, _END

    def read(self, source: Source, answer: Answer, functions: Functions) -> Reading[None]:
        before = yield from source.space()
        if (yield from source.skip(_BEGIN)):
            before += _BEGIN
        opening = "["
        while True:

            def one(opening: str = opening) -> Reading[bool]:
                yield from source.space()
                if not (yield from source.skip(opening)):
                    return False
                yield from source.space()
                return (yield from self._call(source, answer, functions))

            if not (yield from call_or_text(source, answer, before, one)):
                break
            before = yield from source.space()
            if (yield from source.skip("]")):
                yield from source.skip(_END, cut=True)
                break
            opening = ","
            if (yield from source.peek()) != ",":
                answer.text(before)
                break
        yield from source.rest(answer.text)

    def _call(self, source: Source, answer: Answer, functions: Functions) -> Reading[bool]:
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
            if (yield from source.skip("**")):
                value = yield from _value(source)
                written = None if value is None else _as_json(value)
                if written is None or before != "{" or not (yield from source.skip(")")):
                    return False
                answer.arguments(written)
                return True
            key = yield from source.run(_KEY)
            yield from source.space()
            if not key or not (yield from source.skip("=")):
                return False
            value = yield from _value(source)
            written = None if value is None else _as_json(value)
            if written is None:
                return False
            answer.arguments(f"{before}{json.dumps(key)}: {written}")
            before = ", "
            yield from source.skip(",")

    def guide(self, lark: Lark, functions: Functions, *, free: bool, parallel: bool) -> str:
        # The first call begins with one literal, which ends where free text may go on no longer:
        # the longest text wins.
        first = lark.either(_rule(lark, function, "[") for function in functions.values())
        call = lark.either(_rule(lark, function, "") for function in functions.values())
        more = f'(", " {call})*' if parallel else ""
        calls = f'{first} {more} "]"'
        if lark.is_token(_BEGIN):
            calls = f"{lark.literal(_BEGIN)} {calls} {lark.literal(_END)} | {calls}"
        calls = lark.rule(calls)
        if not free:
            return calls
        names = "|".join(re.escape(name) for name in functions)
        return lark.either([calls, lark.text_but(rf"\[({names})\(")])


def _rule(lark: Lark, function: dict[str, Any], before: str) -> str:
    parameters = listed_parameters(function)
    if parameters is None or not all(p.name.isidentifier() for p in parameters):
        head = lark.literal(f"{before}{function['name']}(")
        return f'{head} "**" {lark.arguments(function)} ")"'
    lenient = not function.get("strict")
    values = [_keyword(lark, parameter, lenient) for parameter in parameters]
    # Whichever comes first, the others come after a comma.
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


def _value(source: Source) -> Reading[str | None]:
    """A value as it is written, up to the comma or bracket after it; None where there is no end."""
    pieces: list[str] = []
    open_brackets: list[str] = []
    while True:
        pieces.append((yield from source.run(_BETWEEN)))
        char = yield from source.peek()
        if not char or len(open_brackets) > MAX_DEPTH:
            return None
        if char in _QUOTED:
            pieces.append((yield from source.take(1)))
            while True:
                pieces.append((yield from source.run(_QUOTED[char])))
                last = yield from source.peek(2)
                if not last or last == "\\":
                    return None
                pieces.append((yield from source.take(1 if last[0] == char else 2)))
                if last[0] == char:
                    break
            continue
        if not open_brackets and char in (",", ")", "]", "}"):
            return "".join(pieces).strip()
        if char in _CLOSES:
            if open_brackets.pop() != _CLOSES[char]:
                return None
        elif char != ",":
            open_brackets.append(char)
        pieces.append((yield from source.take(1)))


def _as_json(value: str) -> str | None:
    """A literal as JSON; None where it is none."""
    try:
        json.loads(value, parse_constant=_refuse)
    except (ValueError, RecursionError):
        pass
    else:
        return value
    try:
        return json.dumps(
            _literal(ast.parse(value, mode="eval").body), ensure_ascii=False, allow_nan=False
        )
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None


def _literal(node: ast.expr) -> Any:
    if isinstance(node, ast.Name) and node.id in _JSON_NAMES:
        return _JSON_NAMES[node.id]
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        return [_literal(value) for value in node.elts]
    if isinstance(node, ast.Dict):
        keys = [ast.literal_eval(key) if key else None for key in node.keys]
        if not all(isinstance(key, str) for key in keys):
            raise ValueError("a key is no text")
        return dict(zip(keys, map(_literal, node.values), strict=True))
    return ast.literal_eval(node)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
