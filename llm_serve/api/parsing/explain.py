"""From what pydantic says of a body to one sentence about one field, and the field's path."""

from __future__ import annotations

import re

from pydantic import ValidationError

from llm_serve.api.schemas.values import BRANCHES
from llm_serve.errors import InvalidRequest, UnsupportedParameter

_NOT_HERE = frozenset(
    {
        *("audio", "function_call", "functions", "modalities", "moderation", "suffix", "store"),
        *("prompt_cache_options", "service_tier", "thinking", "verbosity", "web_search_options"),
    }
)
"""Fields that OpenAI has, or an engine: refused as what cannot be done here, not as unknown."""
_INSTEAD = {"functions": "use tools", "function_call": "use tool_choice and tool_calls"}


def explain(
    error: ValidationError,
    known: frozenset[str] = _NOT_HERE,
    branches: frozenset[str] = BRANCHES,
) -> InvalidRequest:
    """The 400 about the first field that is wrong. `known` are fields that cannot be used here,
    `branches` the parts of a location that are no field."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    unknown = first["type"] == "extra_forbidden"
    param = _path(first["loc"], unknown, branches)
    names = re.sub(r"\[\d+\]", "", param).split(".")
    other_type = first["type"] == "other_type" or (
        names[-1] == "type" and first["type"] == "literal_error"
    )
    unsupported = other_type or not known.isdisjoint({names[0], names[-1]})
    kind = UnsupportedParameter if unsupported else InvalidRequest
    if unknown:
        what = "is not supported here" if unsupported else "is not a known field"
        return kind(f"{param} {what}; {_INSTEAD.get(names[-1], 'leave it out')}.", param=param)
    if first["type"] == "missing":
        return kind(f"{param} is required.", param=param)
    return kind(f"{param}: {first['msg']}.", param=param)


def _path(loc: tuple[int | str, ...], unknown: bool, branches: frozenset[str]) -> str:
    """`messages[0].role` from pydantic's location; that of an `unknown` field ends with its name,
    which may be anything."""
    path = ""
    for depth, part in enumerate(loc, 1):
        if isinstance(part, int):
            path += f"[{part}]"
        elif part not in branches or (unknown and depth == len(loc)):
            path += f".{part}" if path else part
    return path[:200]
