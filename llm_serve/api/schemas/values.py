"""What bodies are made of: objects whose members are known, bounded values, and unions.

A union's branch is chosen by a look at the value, so that what is wrong is said of that branch
alone. pydantic puts the branch's tag into the location of an error; `BRANCHES` has them all.

A list is given up at its first wrong entry and ends at a length, and so does an object: to collect
every error of a large one would stop the other streams (see `llm_serve.api.parsing.outline`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    model_validator,
)
from pydantic_core import PydanticCustomError

MAX_MESSAGES = 2048
MAX_ENTRIES = 1024
"""Of a list or an object that is no conversation and no prompt."""


def _or_null(schema: dict[str, Any], model: type[BaseModel]) -> None:
    """Lets optional fields be null in the JSON Schema, as `Body` lets every one of them."""
    for name, field in schema.get("properties", {}).items():
        null = {"type": "null"}
        if name not in schema.get("required", ()) and null not in field.get("anyOf", ()):
            notes = {k: field.pop(k) for k in ("title", "description", "default") if k in field}
            schema["properties"][name] = {"anyOf": [field, null], **notes}


class Body(BaseModel):
    """A JSON object whose members are all known here."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, json_schema_extra=_or_null)

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, data: Any) -> Any:
        """Drops members that are null, and all unknown ones but the first, which is enough to
        refuse the body by."""
        if not isinstance(data, dict):
            return data
        if len(data) > len(cls.model_fields):
            known = {field.alias or name for name, field in cls.model_fields.items()}
            unknown = next((key for key in data if key not in known), None)
            data = {key: data[key] for key in (*known, unknown) if key in data}
        if None in data.values():
            return {key: value for key, value in data.items() if value is not None}
        return data


_Value = TypeVar("_Value")


def _bool_only(value: Any) -> Any:
    """Python holds 0 for equal to False, and so does pydantic's `Literal[False]`."""
    if not isinstance(value, bool):
        raise PydanticCustomError("bool_type", "Input should be a valid boolean")
    return value


def _few(value: Any) -> Any:
    """Refuses an object of too many members before they are looked at, as pydantic does not."""
    if isinstance(value, dict) and len(value) > MAX_ENTRIES:
        raise PydanticCustomError(
            "too_long",
            "Dictionary should have at most {most} items, not {count}",
            {"most": MAX_ENTRIES, "count": len(value)},
        )
    return value


Off = Annotated[Literal[False], BeforeValidator(_bool_only)]
Few = Annotated[_Value, Field(max_length=MAX_ENTRIES, fail_fast=True)]
FewKeys = Annotated[dict[str, _Value], Field(max_length=MAX_ENTRIES), BeforeValidator(_few)]
LogitBias = Annotated[float, Field(ge=-100, le=100)]
TokenId = Annotated[int, Field(ge=0, le=2**31 - 1)]
TokenIds = Annotated[list[TokenId], Field(min_length=1, max_length=131_072, fail_fast=True)]

TEXT, TEXTS, TOKENS, MANY = Tag("(text)"), Tag("(texts)"), Tag("(tokens)"), Tag("(many)")
JSON, SCHEMA, TOOL, MEDIA = Tag("(json)"), Tag("(schema)"), Tag("(tool)"), Tag("(media)")
PLAIN, SAID, RESULT = Tag("(plain)"), Tag("(said)"), Tag("(result)")
BRANCHES = frozenset(
    tag.tag for tag in (TEXT, TEXTS, TOKENS, MANY, JSON, SCHEMA, TOOL, MEDIA, PLAIN, SAID, RESULT)
)
"""Parts of an error's location that are no field."""


def _by_kind(value: Any) -> str | None:
    """The branch of a value that is a text or a list of something."""
    if isinstance(value, str):
        return TEXT.tag
    return MANY.tag if isinstance(value, list) else None


def by_first(prompt: Any) -> str | None:
    """The branch of a prompt, which may be a list of three kinds."""
    if not isinstance(prompt, list):
        return _by_kind(prompt)
    first = prompt[0] if prompt else None
    if isinstance(first, str):
        return TEXTS.tag
    return MANY.tag if isinstance(first, list) else TOKENS.tag


def by_member(
    name: str, branches: dict[str, Tag], other: Tag, no_object: Tag | None = None
) -> Discriminator:
    """Tells an object's branch by one of its members: `other` where it has none of `branches`,
    `no_object` for what is not an object (else `other` too)."""

    def branch(value: Any) -> str:
        if not isinstance(value, dict):
            return (no_object or other).tag
        member = value.get(name)
        return (branches.get(member, other) if isinstance(member, str) else other).tag

    return Discriminator(branch)


def by_type(form: Any) -> str | None:
    """The branch of a `response_format`."""
    kind = form.get("type") if isinstance(form, dict) else None
    known = {
        "text": TEXT.tag,
        "json_object": JSON.tag,
        "json_schema": SCHEMA.tag,
        "structural_tag": MANY.tag,
    }
    return known.get(kind) if isinstance(kind, str) else None


NEITHER: dict[str, Any] = {
    "custom_error_type": "text_or_list",
    "custom_error_message": "Input should be a string or a list",
}
_Text = TypeVar("_Text")
_List = TypeVar("_List")
TextOrList = Annotated[
    Annotated[_Text, TEXT] | Annotated[_List, MANY], Discriminator(_by_kind, **NEITHER)
]
StopText = Annotated[str, Field(min_length=1, max_length=1000)]
Stop = TextOrList[StopText, Annotated[list[StopText], Field(max_length=4, fail_fast=True)]]
Prompts = Annotated[list[_Value], Field(min_length=1, max_length=128, fail_fast=True)]
PromptInput = Annotated[
    Annotated[str, TEXT]
    | Annotated[TokenIds, TOKENS]
    | Annotated[Prompts[str], TEXTS]
    | Annotated[Prompts[TokenIds], MANY],
    Discriminator(by_first, **NEITHER),
]
