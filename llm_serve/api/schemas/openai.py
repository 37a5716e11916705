"""What a request body may hold: the guide's fields and ranges first, then OpenAI's.

A field that has no effect on the answer (an identifier, say) is accepted. One that asks for
something which cannot be done is refused by name: by the model's capabilities in
`llm_serve.api.schemas.requests`, or here where no backend has it. Nothing is ignored. `null` means
"left out", as with OpenAI.

A list is given up at its first wrong entry and ends at a length, and so does an object: to collect
every error of a large one would stop the other streams (see `outline`).
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from llm_serve.sampling import Guide

_Value = TypeVar("_Value")
Stop = Annotated[str, Field(min_length=1, max_length=1000)]
TokenId = Annotated[int, Field(ge=0, le=2**31 - 1)]
TokenIds = Annotated[list[TokenId], Field(min_length=1, max_length=131_072, fail_fast=True)]
LogitBias = Annotated[float, Field(ge=-100, le=100)]
MAX_MESSAGES = 2048
MAX_ENTRIES = 1024
"""Of a list or an object that is no conversation and no prompt."""


def _bool_only(value: Any) -> Any:
    """Python holds 0 for equal to False, and so does pydantic's `Literal[False]`."""
    if not isinstance(value, bool):
        raise PydanticCustomError("bool_type", "Input should be a valid boolean")
    return value


def _few(value: Any) -> Any:
    """Before the entries are looked at; pydantic counts them afterwards."""
    if isinstance(value, dict) and len(value) > MAX_ENTRIES:
        raise PydanticCustomError(
            "too_long",
            "Dictionary should have at most {most} items, not {count}",
            {"most": MAX_ENTRIES, "count": len(value)},
        )
    return value


Few = Annotated[_Value, Field(max_length=MAX_ENTRIES, fail_fast=True)]
FewKeys = Annotated[dict[str, _Value], Field(max_length=MAX_ENTRIES), BeforeValidator(_few)]
Off = Annotated[Literal[False], BeforeValidator(_bool_only)]

MAX_TOKENS = 8192  # the guide's upper end of max_tokens and max_completion_tokens


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, data: Any) -> Any:
        """Also leaves out all unknown members but the first, which is enough to refuse them."""
        if not isinstance(data, dict):
            return data
        if len(data) > len(cls.model_fields):
            known = {field.alias or name for name, field in cls.model_fields.items()}
            unknown = next((key for key in data if key not in known), None)
            data = {key: data[key] for key in (*known, unknown) if key in data}
        return {key: value for key, value in data.items() if value is not None}


class TextPart(_Body):
    """A piece of content; only text can be read by the models here."""

    type: Literal["text"]
    text: str


class Message(_Body):
    """One turn of the conversation."""

    role: Literal["system", "user", "assistant"]
    content: str | Annotated[Few[list[TextPart]], Field(min_length=1)]
    name: str | None = None

    def plain(self) -> dict[str, str]:
        """The message as a chat template reads it."""
        content = self.content
        if not isinstance(content, str):
            content = "".join(part.text for part in content)
        message = {"role": self.role, "content": content}
        if self.name is not None:
            message["name"] = self.name
        return message


class StreamOptions(_Body):
    include_usage: bool = False
    include_obfuscation: Off = False


class TextFormat(_Body):
    type: Literal["text"]


class _Sampled(_Body):
    """Fields that chat and text completions share."""

    model: str | None = Field(None, description="A model of `/v1/models`; left out: the first.")
    stream: bool = False
    stream_options: StreamOptions | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    max_tokens: int | None = Field(None, ge=1, le=MAX_TOKENS)
    stop: Stop | Annotated[list[Stop], Field(max_length=4, fail_fast=True)] | None = None
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


class ChatRequest(_Sampled):
    """The body of `POST /v1/chat/completions`."""

    messages: list[Message] = Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)
    max_completion_tokens: int | None = Field(
        None, ge=1, le=MAX_TOKENS, description="Takes precedence over `max_tokens`."
    )
    logprobs: bool = False
    top_logprobs: int | None = Field(None, ge=0, le=20)
    response_format: TextFormat | None = None
    modalities: Few[list[Literal["text"]]] | None = None
    metadata: FewKeys[str] | None = Field(None, description="Accepted; has no effect.")
    store: Off = False
    service_tier: Literal["auto", "default"] | None = None
    safety_identifier: str | None = Field(None, description="Accepted; has no effect.")
    prompt_cache_key: str | None = Field(None, description="Accepted; has no effect.")


class JsonFormat(_Body):
    type: Literal["json_object"]


class JsonSchema(_Body):
    name: str
    schema_: dict[str, Any] = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None


class SchemaFormat(_Body):
    type: Literal["json_schema"]
    json_schema: JsonSchema


class GuidedChatRequest(ChatRequest):
    """The body of `POST /v1/chat/completions` for a model that can be held to JSON."""

    response_format: TextFormat | JsonFormat | SchemaFormat | None = None  # type: ignore[assignment]

    def guide(self) -> Guide | None:
        """What the answer must obey."""
        match self.response_format:
            case JsonFormat():
                return Guide()
            case SchemaFormat(json_schema=schema):
                return Guide(json.dumps(schema.schema_))
            case _:
                return None


class CompletionRequest(_Sampled):
    """The body of `POST /v1/completions`."""

    prompt: (
        str
        | TokenIds
        | Annotated[list[str], Field(min_length=1, max_length=128, fail_fast=True)]
        | Annotated[list[TokenIds], Field(min_length=1, max_length=128, fail_fast=True)]
    )
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
