"""What a function may be called with: its JSON Schema, and the parameters that it lists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_COMBINING = frozenset({"$ref", "allOf", "anyOf", "oneOf", "not", "if", "then", "else"})
_OF_OBJECTS = frozenset(
    {"patternProperties", "unevaluatedProperties", "propertyNames", "minProperties"}
    | {"maxProperties", "dependentRequired", "dependentSchemas", "dependencies"}
)
_DEFINITIONS = "$defs", "definitions"
_DEPTH = 16
"""References that lead to references."""
_NAME = re.compile(r"[A-Za-z_][\w-]*")


@dataclass(frozen=True)
class Parameter:
    """One of a function, by name; the definitions that its schema refers to are in the schema."""

    name: str
    schema: dict[str, Any]
    required: bool


def arguments_schema(function: dict[str, Any]) -> dict[str, Any]:
    """The JSON Schema of the arguments: always of an object.

    A function without `parameters` takes none, as OpenAI documents. Where parameters are listed,
    there are no others, unless the schema says so: JSON Schema would allow them, but no function
    takes what it does not know.
    """
    schema = function.get("parameters")
    if schema is None:
        return {"type": "object", "properties": {}, "additionalProperties": False}
    schema = {"type": "object", **schema}
    closed = {*_COMBINING, *_OF_OBJECTS, "additionalProperties"}.isdisjoint(schema)
    if "properties" in schema and closed:
        schema["additionalProperties"] = False
    return schema


def listed_parameters(function: dict[str, Any]) -> list[Parameter] | None:
    """The parameters in the order of the schema; None where the schema says more than a list of
    them can."""
    schema = arguments_schema(function)
    properties = schema.get("properties")
    required = schema.get("required", [])
    if (
        schema["type"] != "object"
        or not isinstance(properties, dict)
        or not isinstance(required, list)
        or not (_COMBINING | _OF_OBJECTS).isdisjoint(schema)
        or not set(required) <= properties.keys()
        or not all(_NAME.fullmatch(name) for name in properties)
        or any(not ref.startswith(("#/$defs/", "#/definitions/")) for ref in _references(schema))
    ):
        return None
    definitions = {key: schema[key] for key in _DEFINITIONS if key in schema}
    return [
        Parameter(name, {**definitions, **_schema(value)}, name in required)
        for name, value in properties.items()
    ]


def parameter_schema(function: dict[str, Any] | None, name: str) -> dict[str, Any]:
    """The schema of one parameter; an empty one where nothing is known of it."""
    schema = (function or {}).get("parameters") or {}
    properties = schema.get("properties")
    if not isinstance(properties, dict) or name not in properties:
        return {}
    definitions = {key: schema[key] for key in _DEFINITIONS if key in schema}
    return {**definitions, **_schema(properties[name])}


def is_text(schema: dict[str, Any]) -> bool:
    """Whether all that the schema allows is text."""
    return _is_text(schema, schema, _DEPTH)


def choices(schema: dict[str, Any]) -> list[str] | None:
    """The texts that a schema of text allows, where it lists them."""
    if "const" in schema:
        return [schema["const"]]
    return schema.get("enum")


def _is_text(schema: Any, root: dict[str, Any], depth: int) -> bool:
    if not isinstance(schema, dict) or not depth:
        return False
    if "const" in schema:
        return isinstance(schema["const"], str)
    if isinstance(enum := schema.get("enum"), list):
        return all(isinstance(value, str) for value in enum)
    if "type" in schema:
        return schema["type"] in ("string", ["string"])
    if isinstance(reference := schema.get("$ref"), str):
        return _is_text(_referred(reference, root), root, depth - 1)
    for key in ("anyOf", "oneOf"):
        if isinstance(options := schema.get(key), list):
            return all(_is_text(option, root, depth - 1) for option in options)
    return any(_is_text(part, root, depth - 1) for part in schema.get("allOf", ()))


def _referred(reference: str, root: dict[str, Any]) -> Any:
    _, _, path = reference.partition("#/")
    found: Any = root
    for step in path.split("/"):
        found = found.get(step) if isinstance(found, dict) else None
    return found


def _schema(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    return {} if value else {"not": {}}


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        for key, value in schema.items():
            if key in ("$ref", "$dynamicRef") and isinstance(value, str):
                yield value
            else:
                yield from _references(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _references(value)
