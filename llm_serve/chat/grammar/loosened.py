"""JSON Schemas without the parts that a grammar cannot be made of.

A function that does not ask for `strict` may have any schema, as with OpenAI: what cannot be
enforced is left to the model, where a response format would be refused.
"""

from __future__ import annotations

import re
from typing import Any

_MAPS = frozenset({"properties", "$defs", "definitions", "dependentSchemas"})
_LISTS = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_ONES = frozenset({"items", "additionalProperties", "unevaluatedProperties", "contains", "not"}) | {
    *("if", "then", "else", "propertyNames", "additionalItems"),
}
_TYPES = frozenset({"string", "number", "integer", "boolean", "object", "array", "null"})
_UNABLE = re.compile(r"\(\?(?!:)|(?<!\\)(?:\\\\)*\\[1-9k]")
"""Lookarounds, named groups, references back: what no regular language has, and what is spelled in
the same way."""


def loosened(schema: Any) -> Any:
    """The schema, allowing what it allows and perhaps more."""
    if not isinstance(schema, dict):
        return schema
    loose = {key: _value(key, value) for key, value in schema.items()}
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


def _value(key: str, value: Any) -> Any:
    if key in _MAPS and isinstance(value, dict):
        return {name: loosened(schema) for name, schema in value.items()}
    if key in _LISTS and isinstance(value, list):
        return [loosened(schema) for schema in value]
    return loosened(value) if key in _ONES else value


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
    return set(types if isinstance(types, list) else [types]) <= _TYPES
