"""What a function may be called with."""

from __future__ import annotations

from typing import Any

_OPEN = frozenset(
    {"additionalProperties", "patternProperties", "unevaluatedProperties", "$ref", "allOf"}
) | {"anyOf", "oneOf", "if"}


def arguments_schema(function: dict[str, Any]) -> dict[str, Any]:
    """The JSON Schema of the arguments: always of an object.

    A function without `parameters` takes none, as OpenAI documents. Where all parameters are
    listed, there are no others, unless the schema says so: JSON Schema would allow them, but no
    function takes what it does not know.
    """
    schema = function.get("parameters")
    if schema is None:
        return {"type": "object", "properties": {}, "additionalProperties": False}
    schema = {"type": "object", **schema}
    if "properties" in schema and not _OPEN & schema.keys():
        schema["additionalProperties"] = False
    return schema
