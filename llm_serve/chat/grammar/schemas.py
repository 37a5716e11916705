"""JSON Schemas as grammars are made of them: without what says nothing of values, and without what
no grammar can enforce."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

_MAPS = frozenset({"properties", "$defs", "definitions", "dependentSchemas", "patternProperties"})
_LISTS = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_ONES = frozenset({"items", "additionalProperties", "unevaluatedProperties", "contains", "not"}) | {
    *("if", "then", "else", "propertyNames", "additionalItems", "unevaluatedItems"),
}
_NOTES = frozenset({"title", "description", "default", "examples", "$comment", "deprecated"})
_TYPES = frozenset({"string", "number", "integer", "boolean", "object", "array", "null"})
_UNABLE = re.compile(r"\(\?(?!:)|(?<!\\)(?:\\\\)*\\[1-9k]")
"""Lookarounds, named groups, references back: what no regular language has, and what is spelled in
the same way."""


def bare(schema: Any) -> Any:
    """The schema without what is for people and models to read, which is most of many schemas."""
    return _rewritten(schema, _without_notes)


def loosened(schema: Any) -> Any:
    """The schema, allowing what it allows and perhaps more.

    A function that does not ask for `strict` may have any schema, as with OpenAI: what cannot be
    enforced is left to the model, where a response format would be refused.
    """
    return _rewritten(schema, _loose)


def _rewritten(schema: Any, rewrite: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    """The schema with itself and all schemas within it rewritten."""
    if not isinstance(schema, dict):
        return schema
    parts: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _MAPS and isinstance(value, dict):
            parts[key] = {name: _rewritten(inner, rewrite) for name, inner in value.items()}
        elif key in _LISTS and isinstance(value, list):
            parts[key] = [_rewritten(inner, rewrite) for inner in value]
        else:
            parts[key] = _rewritten(value, rewrite) if key in _ONES else value
    return rewrite(parts)


def _without_notes(schema: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key not in _NOTES}


def _loose(schema: dict[str, Any]) -> dict[str, Any]:
    loose = dict(schema)
    if not _is_regular(loose.get("pattern", "")):
        del loose["pattern"]
    if not _is_local(loose.get("$ref", "#")):
        del loose["$ref"]
    if not _are_types(loose.get("type", "null")):
        del loose["type"]
    patterns = loose.get("patternProperties", {})
    if not isinstance(patterns, dict) or len(patterns) > 1 or not all(map(_is_regular, patterns)):
        # What their names are held to is no longer known, so neither is what others may be.
        del loose["patternProperties"]
        loose.pop("additionalProperties", None)
    return loose


def _is_regular(pattern: Any) -> bool:
    if not isinstance(pattern, str) or _UNABLE.search(pattern):
        return False
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError):
        return False
    return True


def _is_local(reference: Any) -> bool:
    return isinstance(reference, str) and reference.startswith("#")


def _are_types(types: Any) -> bool:
    return all(one in _TYPES for one in (types if isinstance(types, list) else [types]))
