"""Random JSON Schemas, each with a value that is valid: of the keywords that people use together.

By hypothesis alone: hypothesis-jsonschema 0.23.1 generates no schemas, only values, and reads what
hypothesis has renamed since.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

Drawn = tuple[dict[str, Any], Any]
NAMES = ["a", "name", "two words", "ü", 'qu"ote', "$ref_", "0", "back\\slash"]
_TEXT = st.text('abc xyzü"\\', max_size=6)
_PATTERNS = {"^[a-c]+x?$": ["a", "abcx"], "^(on|off)$": ["on", "off"], r"^\d{2}-[A-F]": ["17-C!"]}
_FORMATS = {
    "date": "2024-02-29",
    "date-time": "2024-05-06T07:08:09Z",
    "uuid": "01234567-89ab-cdef-0123-456789abcdef",
    "ipv4": "127.0.0.1",
    "email": "me@example.com",
}


@st.composite
def _texts(draw: st.DrawFn) -> Drawn:
    match draw(st.integers(0, 3)):
        case 0:
            value = draw(_TEXT)
            least = draw(st.integers(0, len(value)))
            most = draw(st.integers(len(value), 9))
            return {"type": "string", "minLength": least, "maxLength": most}, value
        case 1:
            pattern = draw(st.sampled_from(sorted(_PATTERNS)))
            return {"type": "string", "pattern": pattern}, draw(st.sampled_from(_PATTERNS[pattern]))
        case 2:
            name = draw(st.sampled_from(sorted(_FORMATS)))
            return {"type": "string", "format": name}, _FORMATS[name]
    values = draw(st.lists(_TEXT | st.integers(-9, 9) | st.none(), min_size=1, max_size=4))
    return {"enum": values}, draw(st.sampled_from(values))


@st.composite
def _numbers(draw: st.DrawFn) -> Drawn:
    value = draw(st.integers(-99, 99))
    kind = draw(st.sampled_from(["integer", "number", "exclusive", "multiple", "const"]))
    least, most = draw(st.integers(-200, value)), draw(st.integers(value, 200))
    match kind:
        case "exclusive":
            schema = {"exclusiveMinimum": least - 1, "exclusiveMaximum": most + 1}
            return {"type": "integer", **schema}, value
        case "multiple":
            bounds = {"minimum": 0, "maximum": 700}  # of negative ones none is ever answered
            return {"type": "integer", "multipleOf": 7, **bounds}, 7 * abs(value)
        case "const":
            return {"const": value}, value
    return {"type": kind, "minimum": least, "maximum": most}, value


_LEAVES = _texts() | _numbers() | st.tuples(st.just({"type": "boolean"}), st.booleans())


@st.composite
def _objects(draw: st.DrawFn, inner: st.SearchStrategy[Drawn]) -> Drawn:
    names = draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=4))
    members = {name: draw(inner) for name in names}
    required = [name for name in names if draw(st.booleans())]
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {name: member for name, (member, _) in members.items()},
        "required": required,
        "additionalProperties": False,
    }
    kept = [name for name in names if name in required or draw(st.booleans())]
    if draw(st.booleans()):
        schema["additionalProperties"] = {"type": "integer", "maximum": 9}
    return schema, {name: members[name][1] for name in kept}


@st.composite
def _arrays(draw: st.DrawFn, inner: st.SearchStrategy[Drawn]) -> Drawn:
    (item, value), count = draw(inner), draw(st.integers(0, 3))
    if draw(st.booleans()):
        more = draw(st.lists(inner, max_size=2))
        schemas, values = [item, *(s for s, _ in more)], [value, *(v for _, v in more)]
        return {"type": "array", "prefixItems": schemas, "items": False}, values
    bounds = {"minItems": draw(st.integers(0, count)), "maxItems": draw(st.integers(count, 4))}
    return {"type": "array", "items": item, **bounds}, [value] * count


@st.composite
def _choices(draw: st.DrawFn, inner: st.SearchStrategy[Drawn]) -> Drawn:
    drawn = draw(st.lists(inner, min_size=1, max_size=3))
    form = draw(st.sampled_from(["anyOf", "allOf", "$ref"]))
    schema, value = draw(st.sampled_from(drawn))
    match form:
        case "anyOf":
            return {"anyOf": [one for one, _ in drawn]}, value
        case "allOf":
            return {"allOf": [schema, {"description": "the same"}]}, value
    return {"$defs": {"it": schema}, "$ref": "#/$defs/it"}, value


_SCHEMAS = st.recursive(
    _LEAVES, lambda inner: _objects(inner) | _objects(inner) | _arrays(inner), max_leaves=8
) | _choices(_objects(_LEAVES))


@cache
def _made(count: int) -> str:
    made: dict[str, Any] = {}

    @settings(
        max_examples=3 * count,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(_SCHEMAS)
    def make(drawn: Drawn) -> None:
        if len(made) < count:
            made[json.dumps(drawn[0])] = drawn[1]

    make()
    assert len(made) == count
    return json.dumps([[json.loads(schema), value] for schema, value in made.items()])


def random_schemas(count: int) -> list[tuple[dict[str, Any], Any]]:
    """So many different ones, the same in every run."""
    return [(schema, value) for schema, value in json.loads(_made(count))]
