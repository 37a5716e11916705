"""Random signatures of functions, as people write them: Hypothesis's strategies."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

NAMES = st.from_regex(r"[a-z][a-z_0-9]{0,8}", fullmatch=True)
_TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("C",)), max_size=8)
_CHOICES = st.lists(_TEXTS, min_size=1, max_size=3, unique=True)
_LEAVES = st.one_of(
    st.just({"type": "string"}),
    st.builds(lambda texts: {"type": "string", "enum": texts}, _CHOICES),
    st.builds(lambda text: {"const": text}, _TEXTS),
    st.builds(lambda low: {"type": "string", "minLength": low, "maxLength": 8}, st.integers(0, 5)),
    st.just({"type": "string", "pattern": "^[a-f]{2,4}$"}),
    st.just({"type": "string", "format": "date"}),
    st.just({"type": "integer"}),
    st.just({"type": "integer", "minimum": -3, "maximum": 40}),
    st.just({"type": "number"}),
    st.just({"type": "boolean"}),
    st.just({"type": ["string", "null"]}),
    st.just({"enum": ["a", 1, None, True]}),
    st.just({"anyOf": [{"type": "integer"}, {"type": "string"}]}),
    st.just({"$ref": "#/$defs/Unit"}),
)


def _containers(schemas: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.builds(lambda item: {"type": "array", "items": item, "maxItems": 3}, schemas),
        st.builds(_object, st.dictionaries(NAMES, schemas, max_size=2), st.integers(0, 3)),
    )


def _object(properties: dict[str, Any], required: int) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties)[:required],
        "additionalProperties": False,
    }


_SCHEMAS = st.recursive(_LEAVES, _containers, max_leaves=4)
_LISTED = st.builds(_object, st.dictionaries(NAMES, _SCHEMAS, max_size=4), st.integers(0, 4))
_MAPS = st.just({"type": "object", "additionalProperties": {"type": "integer"}, "maxProperties": 2})
_PARAMETERS = st.one_of(_LISTED, _LISTED, _LISTED, _MAPS)


@st.composite
def functions(draw: st.DrawFn) -> dict[str, Any]:
    """One function, with a definition that its schema may refer to."""
    function: dict[str, Any] = {"name": draw(NAMES)}
    if draw(st.integers(0, 9)):  # one of ten takes nothing
        definitions = {"Unit": {"type": "string", "enum": ["km", "mile"]}}
        function["parameters"] = {**draw(_PARAMETERS), "$defs": definitions}
    return function


def lists_of_functions() -> st.SearchStrategy[list[dict[str, Any]]]:
    return st.lists(functions(), min_size=1, max_size=3, unique_by=lambda f: f["name"])
