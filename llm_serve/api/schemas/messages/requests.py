"""The bodies of `POST /v1/messages` and of `POST /v1/messages/count_tokens`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, Tag
from pydantic_core import PydanticCustomError

from llm_serve.api.schemas.chat.tools import Parameters
from llm_serve.api.schemas.messages.blocks import TextBlock, Turn
from llm_serve.api.schemas.messages.lenient import NOT_READ, Ignored, Lenient, Name, chosen_by
from llm_serve.api.schemas.values import MAX_MESSAGES, Few, StopText, TextOrList


def _own(kind: Any) -> Any:
    if kind not in (None, "custom"):
        raise PydanticCustomError(
            NOT_READ,
            "only tools of yours are offered to the model, each with an input_schema; none of "
            "Anthropic's is known here",
        )
    return kind


class MessagesTool(Lenient):
    """A tool that the client runs; `input_schema` is a JSON Schema."""

    type: Annotated[Literal["custom"] | None, BeforeValidator(_own)] = None
    name: Name
    input_schema: Parameters
    description: str | None = None
    strict: bool | None = None
    defer_loading: bool = Field(
        False, description="Offered only once a `tool_reference` or `tool_addition` names it."
    )
    input_examples: Few[list[dict[str, Any]]] | None = None
    allowed_callers: Annotated[Few[list[Literal["direct"]]], Field(min_length=1)] | None = None
    eager_input_streaming: Ignored = None
    cache_control: Ignored = None


class MessagesToolChoice(Lenient):
    """Whether a tool must be used; with `tool`, and only there, `name` says which."""

    type: Literal["auto", "any", "tool", "none"]
    name: Name | None = None
    disable_parallel_tool_use: bool = False


class Thinking(Lenient):
    """Whether the model reasons first; left out: it does not, as far as its template can tell it.

    `between_tools` is only after results of tools. `budget_tokens` is a wish.
    """

    type: Literal["enabled", "disabled", "adaptive", "between_tools"]
    budget_tokens: int | None = Field(None, ge=1024, le=2**31 - 1)
    display: Literal["summarized", "omitted", "updates"] | None = Field(
        None, description="`omitted` puts the reasoning into the signature; else it is shown."
    )
    block_binding: Ignored = None


class JsonOutput(Lenient):
    """JSON that a schema allows."""

    type: Literal["json_schema"]
    schema_: dict[str, Any] = Field(alias="schema")


class OutputConfig(Lenient):
    """How the answer is made; `effort` is for templates that know `reasoning_effort`."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: JsonOutput | None = None


class ThinkingTurns(Lenient):
    """The latest turns of the assistant."""

    type: Literal["thinking_turns"]
    value: int = Field(ge=1, le=MAX_MESSAGES)


class AllThinkingTurns(Lenient):
    """Every turn of the assistant."""

    type: Literal["all"]


def _known_edit(kind: Any) -> Any:
    if kind != "clear_thinking_20251015":
        raise PydanticCustomError(
            NOT_READ, "only 'clear_thinking_20251015' is done here; leave turns out yourself"
        )
    return kind


def _all(keep: Any) -> Any:
    return {"type": "all"} if keep == "all" else keep


class ClearThinking(Lenient):
    """Leaves the reasoning of older turns out, of all but the latest one if `keep` is left out."""

    type: Annotated[Literal["clear_thinking_20251015"], BeforeValidator(_known_edit)]
    keep: (
        Annotated[
            Annotated[ThinkingTurns, Tag("(thinking_turns)")]
            | Annotated[AllThinkingTurns, Tag("(all)")],
            chosen_by("type", "thinking_turns", "all"),
            BeforeValidator(_all, json_schema_input_type=Any),
        ]
        | None
    ) = None

    @property
    def kept(self) -> int:
        """How many of the assistant's turns keep their reasoning."""
        match self.keep:
            case None:
                return 1
            case ThinkingTurns(value=value):
                return value
            case _:
                return MAX_MESSAGES


class ContextManagement(Lenient):
    """What is left out of a long conversation."""

    edits: Few[list[ClearThinking]] = Field(default_factory=list)


class CountTokensRequest(Lenient):
    """The body of `POST /v1/messages/count_tokens`."""

    model: str | None = Field(None, description="A model of `/v1/models`; left out: the first.")
    messages: list[Turn] = Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)
    system: TextOrList[str, Few[list[TextBlock]]] | None = None
    tools: Few[list[MessagesTool]] | None = None
    tool_choice: MessagesToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    output_format: JsonOutput | None = Field(
        None, description="The former name of `output_config.format`."
    )
    context_management: ContextManagement | None = None
    speed: Literal["standard"] | None = None
    cache_control: Ignored = None
    user_profile_id: Ignored = None
    workspace_id: Ignored = None

    @property
    def wanted(self) -> tuple[str, dict[str, Any]] | None:
        """The field that wants JSON, and the schema of it."""
        if self.output_format is not None:
            return "output_format", self.output_format.schema_
        if self.output_config is not None and self.output_config.format is not None:
            return "output_config.format", self.output_config.format.schema_
        return None


class MessagesRequest(CountTokensRequest):
    """The body of `POST /v1/messages`."""

    max_tokens: int = Field(ge=1, le=2**31 - 1, description="Cut to what the context leaves.")
    stream: bool = False
    temperature: float | None = Field(None, ge=0, le=1)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=0, le=2**31 - 1)
    stop_sequences: Annotated[list[StopText], Field(max_length=64, fail_fast=True)] | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
    metadata: Ignored = None
    diagnostics: Ignored = None


class EngineCountTokensRequest(CountTokensRequest):
    """The body of `POST /v1/messages/count_tokens` for a model whose engine brings a server."""

    chat_template_kwargs: dict[str, Any] | None = None


class EngineMessagesRequest(MessagesRequest):
    """The body of `POST /v1/messages` for such a model, with fields of the engine's own."""

    chat_template_kwargs: dict[str, Any] | None = None
    cache_salt: str | None = None
    vllm_xargs: dict[str, Any] | None = None
