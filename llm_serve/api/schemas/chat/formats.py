"""What an answer must be: JSON, a choice of texts, or what an expression or a grammar allows.

`response_format` is OpenAI's, `structured_outputs` vLLM's, and the `guided_...` fields are its
older names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Discriminator, Field

from llm_serve.api.schemas.values import (
    JSON,
    MANY,
    SCHEMA,
    TEXT,
    Body,
    Few,
    by_member,
    by_type,
)
from llm_serve.errors import InvalidRequest
from llm_serve.sampling import Guide
from llm_serve.wire import to_json

_SPECIAL = re.compile(r"[\\.+*?()|\[\]{}^$]")
_ESCAPED = r"\\\g<0>"


class TextFormat(Body):
    """Any text."""

    type: Literal["text"]


class JsonFormat(Body):
    """A JSON object."""

    type: Literal["json_object"]


class JsonSchema(Body):
    """A JSON Schema, with a name for it."""

    name: str
    schema_: dict[str, Any] = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None


class SchemaFormat(Body):
    """JSON that a schema allows."""

    type: Literal["json_schema"]
    json_schema: JsonSchema


class TagFormat(BaseModel):
    """vLLM's structural tags, which it checks."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    type: Literal["structural_tag"]


Format: TypeAlias = Annotated[
    Annotated[TextFormat, TEXT]
    | Annotated[JsonFormat, JSON]
    | Annotated[SchemaFormat, SCHEMA]
    | Annotated[TagFormat, MANY],
    Discriminator(
        by_type,
        custom_error_type="format_type",
        custom_error_message="type should be 'text', 'json_object' or 'json_schema'",
    ),
]
SchemaText = Annotated[str, Field(max_length=262_144)]
"""It is parsed in one go, as text of which nothing is known."""
Schema: TypeAlias = Annotated[
    Annotated[SchemaText, TEXT] | Annotated[dict[str, Any], SCHEMA],
    by_member("", {}, SCHEMA, TEXT),
]
"""A JSON Schema, as an object or as JSON text."""
Expression = Annotated[str, Field(min_length=1, max_length=65_536)]
Choices = Annotated[Few[list[Expression]], Field(min_length=1)]


class StructuredOutputs(Body):
    """One of the first five, or vLLM's `structural_tag`; the rest is vLLM's alone, too."""

    json_: Schema | None = Field(None, alias="json")
    regex: Expression | None = None
    choice: Choices | None = None
    grammar: Expression | None = None
    json_object: bool | None = None
    structural_tag: str | None = None
    whitespace_pattern: str | None = None
    disable_any_whitespace: bool | None = None
    disable_additional_properties: bool | None = None

    def by_engine(self) -> str | None:
        """The first field in it that only vLLM has."""
        return next((name for name in _BY_ENGINE if getattr(self, name) is not None), None)


_BY_ENGINE = (
    *("structural_tag", "whitespace_pattern", "disable_any_whitespace"),
    "disable_additional_properties",
)


class Guided(BaseModel):
    """The fields of a request that say what its answer must be; one of them at most."""

    response_format: Format | None = None
    structured_outputs: StructuredOutputs | None = Field(None, description="An extension.")
    guided_json: Schema | None = Field(None, description="An extension.")
    guided_regex: Expression | None = Field(None, description="An extension.")
    guided_choice: Choices | None = Field(None, description="An extension.")
    guided_grammar: Expression | None = Field(None, description="An extension: GBNF or Lark.")

    def guide(self) -> Guide | None:
        """What they say. Raises InvalidRequest where several say something."""
        found = list(self._guides())
        if len(found) > 1:
            first, second = found[0].param, found[1].param
            raise InvalidRequest(
                f"{second} cannot be combined with {first}; send one of them.", param=second
            )
        return found[0] if found else None

    def guided_by_engine(self) -> str | None:
        """The first field of these that only an engine of its own can obey."""
        if isinstance(self.response_format, TagFormat):
            return "response_format.type"
        name = None if self.structured_outputs is None else self.structured_outputs.by_engine()
        return None if name is None else f"structured_outputs.{name}"

    def _guides(self) -> Iterator[Guide]:
        match self.response_format:
            case JsonFormat():
                yield Guide("json_object")
            case SchemaFormat(json_schema=schema):
                text = to_json(schema.schema_).decode()
                yield Guide("json_schema", text)
        if (outputs := self.structured_outputs) is not None:
            held = (outputs.json_, outputs.regex, outputs.choice, outputs.grammar)
            some = list(_of("structured_outputs.", *held))
            if outputs.json_object:
                some.append(Guide("json_object", param="structured_outputs.json_object"))
            if not some and outputs.structural_tag is None:
                raise InvalidRequest(
                    "structured_outputs needs one of json, regex, choice, grammar and json_object.",
                    param="structured_outputs",
                )
            yield from some
        held = (self.guided_json, self.guided_regex, self.guided_choice, self.guided_grammar)
        yield from _of("guided_", *held)


def _of(
    prefix: str,
    schema: str | dict[str, Any] | None,
    regex: str | None,
    choice: list[str] | None,
    grammar: str | None,
) -> Iterator[Guide]:
    if schema is not None:
        text = _json_text(schema, f"{prefix}json")
        yield Guide("json_schema", text, param=f"{prefix}json")
    if regex is not None:
        yield Guide("regex", regex, param=f"{prefix}regex")
    if choice is not None:
        text = "|".join(f"({_SPECIAL.sub(_ESCAPED, one)})" for one in choice)
        yield Guide("regex", text, param=f"{prefix}choice")
    if grammar is not None:
        yield Guide("grammar", grammar, param=f"{prefix}grammar")


def _json_text(schema: str | dict[str, Any], field: str) -> str:
    if isinstance(schema, dict):
        return to_json(schema).decode()
    try:
        value = json.loads(schema)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict | bool):
        raise InvalidRequest(f"{field}: It should be a JSON Schema, or its text.", param=field)
    return schema
