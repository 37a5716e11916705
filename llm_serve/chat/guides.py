"""What an answer is held to: calls in the model's own format, a format of the response, or both."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from llm_serve.chat.formats import CallFormat, Functions
from llm_serve.chat.grammar.arguments import arguments_schema
from llm_serve.chat.grammar.lark import Lark
from llm_serve.chat.reasoning import ReasoningMarks
from llm_serve.errors import InvalidRequest
from llm_serve.sampling import Guide

_IN_LARK = re.compile(r"\\.|[/\n]", re.DOTALL)
"""What is escaped in a regular expression, or has to be within the slashes of Lark."""
_LAYOUT = "/\\n{0,2}/"
"""Lines that models leave empty after their reasoning."""


def guide_by_grammar(
    form: CallFormat | None,
    functions: Functions,
    wanted: Guide | None,
    tokens: Mapping[str, int],
    *,
    marks: ReasoningMarks | None,
    must_call: bool,
    parallel: bool,
) -> Guide | None:
    """A grammar, or `wanted` itself where that is all. With `marks`, there may be reasoning before.

    None where nothing is held to anything.
    """
    lark = Lark(tokens)
    choices = []
    if form is not None and functions:
        free = not must_call and wanted is None
        calls = form.guide(lark, functions, free=free, parallel=parallel)
        if calls is None:
            return None
        choices.append(calls)
    if wanted is not None and not must_call:
        response = _response(lark, wanted)
        if response is None and not choices:
            return wanted
        if response is None:
            raise InvalidRequest(
                "A response held to a grammar cannot be combined with tools: leave out one of "
                "them, or give the format as a JSON Schema.",
                param=wanted.param,
            )
        if not choices and marks is None:
            return wanted
        choices.append(response)
    if not choices:
        return None
    body = lark.either(choices)
    if marks is not None:
        body = f"({lark.literal(marks.begin)} {lark.until(marks.end)} {_LAYOUT})? {body}"
    return Guide("lark", lark.grammar(body), param=wanted.param if wanted else "tools")


def guide_by_schema(
    functions: Functions, wanted: Guide | None, *, must_call: bool, parallel: bool
) -> Guide | None:
    """The same for engines that know JSON Schemas alone: calls are a JSON list of objects with
    `name` and `arguments`."""
    calls: dict[str, Any] = {
        "type": "array",
        "items": {"anyOf": [_call_schema(function) for function in functions.values()]},
        "minItems": 1,
    }
    if not parallel:
        calls["maxItems"] = 1
    if must_call:
        return Guide("json_schema", json.dumps(calls), param="tools")
    if wanted is None or not functions:
        return wanted
    if wanted.kind not in ("json_object", "json_schema"):
        raise InvalidRequest(
            "With this engine, a response held to anything but JSON cannot be combined with tools.",
            param=wanted.param,
        )
    schema = json.loads(wanted.text) if wanted.text else {"type": "object"}
    return Guide("json_schema", json.dumps({"anyOf": [schema, calls]}), param=wanted.param)


def _call_schema(function: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            "name": {"const": function["name"]},
            "arguments": arguments_schema(function),
        },
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _response(lark: Lark, wanted: Guide) -> str | None:
    """The format of a response as a rule; None for a grammar, whose rules are its own."""
    if wanted.kind == "json_object":
        return lark.json({"type": "object"})
    if wanted.kind == "json_schema":
        return lark.json(json.loads(wanted.text))
    if wanted.kind == "regex":
        return lark.terminal(f"/{_IN_LARK.sub(_escaped, wanted.text)}/")
    return None


def _escaped(found: re.Match[str]) -> str:
    return {"/": "\\/", "\n": "\\n"}.get(found[0], found[0])
