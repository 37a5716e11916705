"""What a request body may hold: the guide's fields and ranges first, then OpenAI's.

A field that has no effect on the answer (an identifier, say) is accepted. One that asks for
something which cannot be done is refused by name: by the model's capabilities in
`llm_serve.api.parsing.parse`, or here where no backend has it. Nothing is ignored. `null` means
"left out", as with OpenAI.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Discriminator, Field, model_validator

from llm_serve.api.schemas.values import (
    JSON,
    MAX_MESSAGES,
    SCHEMA,
    TEXT,
    Few,
    FewKeys,
    LogitBias,
    Off,
    PromptInput,
    Stop,
    TextOrList,
    by_type,
)
from llm_serve.sampling import Guide

MAX_TOKENS = 8192
"""The guide's upper end of `max_tokens` and `max_completion_tokens`."""


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


class TextPart(Body):
    """A piece of content; only text can be read by the models here."""

    type: Literal["text"]
    text: str


class Turn(Body):
    """One turn of a conversation, whatever its roles and its content may be."""

    role: str
    content: Any
    name: str | None = None

    def text(self) -> str | None:
        """The content where it is text alone, its parts joined; else None."""
        content = self.content
        if content is None or isinstance(content, str):
            return content
        texts = [part.text for part in content if part.type == "text"]
        try:
            return "".join(texts) if len(texts) == len(content) else None
        except TypeError:  # an engine's part may hold anything
            return None

    def templated(self) -> dict[str, str]:
        """The turn as a chat template reads it."""
        content = self.content
        turn = {
            "role": self.role,
            "content": content if isinstance(content, str) else self.text() or "",
        }
        if self.name is not None:
            turn["name"] = self.name
        return turn


class Message(Turn):
    """One turn of the conversation."""

    role: Literal["system", "user", "assistant"]
    content: TextOrList[str, Annotated[Few[list[TextPart]], Field(min_length=1)]]


class StreamOptions(Body):
    """What a stream says besides the answer. A request that does not stream may not have them."""

    include_usage: bool = False
    include_obfuscation: Off = False


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


AnyFormat = Annotated[
    Annotated[TextFormat, TEXT] | Annotated[JsonFormat, JSON] | Annotated[SchemaFormat, SCHEMA],
    Discriminator(
        by_type,
        custom_error_type="format_type",
        custom_error_message="type should be 'text', 'json_object' or 'json_schema'",
    ),
]


class Sampled(Body):
    """Fields that chat and text completions share."""

    model: str | None = Field(None, description="A model of `/v1/models`; left out: the first.")
    stream: bool = False
    stream_options: StreamOptions | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    max_tokens: int | None = Field(None, ge=1, le=MAX_TOKENS)
    stop: Stop | None = None
    n: int = Field(1, ge=1, le=128)
    seed: int | None = Field(None, ge=-(2**63), le=2**63 - 1)
    presence_penalty: float = Field(0, ge=-2, le=2)
    frequency_penalty: float = Field(0, ge=-2, le=2)
    logit_bias: FewKeys[LogitBias] | None = None
    top_k: int | None = Field(None, ge=0, le=2**31 - 1, description="0 is off. An extension.")
    min_p: float | None = Field(None, ge=0, le=1, description="An extension.")
    ignore_eos: bool = Field(
        False, description="Go on to max_tokens. An extension, for benchmarks."
    )
    user: str | None = Field(None, description="Accepted; has no effect.")

    def needs_engine(self) -> bool:
        """Whether only the engine's own server can answer it, not our renderer."""
        return False


_Turn = TypeVar("_Turn", bound=Turn)
_Format = TypeVar("_Format")


class Chat(Sampled, Generic[_Turn, _Format]):
    """The fields of a chat, whatever its turns and the formats of its answer."""

    messages: list[_Turn] = Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)
    max_completion_tokens: int | None = Field(
        None, ge=1, le=MAX_TOKENS, description="Takes precedence over `max_tokens`."
    )
    logprobs: bool = False
    top_logprobs: int | None = Field(None, ge=0, le=20)
    response_format: _Format | None = None
    modalities: Few[list[Literal["text"]]] | None = None
    metadata: FewKeys[str] | None = Field(None, description="Accepted; has no effect.")
    store: Off = False
    service_tier: Literal["auto", "default"] | None = None
    safety_identifier: str | None = Field(None, description="Accepted; has no effect.")
    prompt_cache_key: str | None = Field(None, description="Accepted; has no effect.")

    def guide(self) -> Guide | None:
        """What the answer must obey, where our renderer answers it."""
        return None


class ChatRequest(Chat[Message, TextFormat]):
    """The body of `POST /v1/chat/completions`."""


class GuidedChatRequest(Chat[Message, AnyFormat]):
    """The body of `POST /v1/chat/completions` for a model that can be held to JSON."""

    def guide(self) -> Guide | None:
        """What the answer must obey."""
        match self.response_format:
            case JsonFormat():
                return Guide()
            case SchemaFormat(json_schema=schema):
                return Guide("json_schema", json.dumps(schema.schema_))
            case _:
                return None


class CompletionRequest(Sampled):
    """The body of `POST /v1/completions`."""

    prompt: PromptInput
    logprobs: int | None = Field(None, ge=0, le=5)
    echo: bool = False
    best_of: int | None = Field(None, ge=1, le=20, description="Only equal to `n`.")

    def prompts(self) -> tuple[str | tuple[int, ...], ...]:
        """The prompts as texts or token ids, one an element."""
        prompt = self.prompt
        if isinstance(prompt, str):
            return (prompt,)
        if isinstance(prompt[0], int):
            return (tuple(p for p in prompt if isinstance(p, int)),)
        return tuple(
            p if isinstance(p, str) else tuple(p) for p in prompt if not isinstance(p, int)
        )
