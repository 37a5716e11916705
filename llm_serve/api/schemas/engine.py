"""What a request body may hold where the engine brings a server of its own (vLLM): OpenAI's fields
for tools, formats and reasoning, and the engine's extensions by its names for them.

The guide's fields keep their ranges. What is typed `Any` here is checked by the engine, which
answers 400 for it like the rest; a field that is in neither schema is refused by name.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from llm_serve.api.schemas.openai import (
    MAX_MESSAGES,
    ChatRequest,
    CompletionRequest,
    Few,
    Message,
    StreamOptions,
    TokenIds,
    _Body,
)

Names = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


class _Open(BaseModel):
    """An object whose other members are the engine's to check."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)


class Part(_Open):
    """A piece of content: text, or what a multimodal model reads."""

    type: Literal["text", "image_url", "input_audio", "audio_url", "video_url", "refusal"]


class FunctionCall(_Body):
    name: str
    arguments: str


class ToolCall(_Body):
    id: str
    type: Literal["function"]
    function: FunctionCall


class EngineMessage(_Body):
    """One turn of the conversation; which roles a model takes is up to its chat template."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | Annotated[Few[list[Part]], Field(min_length=1)] | None = None
    name: str | None = None
    tool_calls: Few[list[ToolCall]] | None = None
    tool_call_id: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None


class Function(_Body):
    name: Annotated[str, Field(min_length=1, max_length=256)]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(_Body):
    type: Literal["function"]
    function: Function


class FunctionName(_Body):
    name: str


class NamedTool(_Body):
    type: Literal["function"]
    function: FunctionName


class Format(_Open):
    """`text`, `json_object`, `json_schema` (with `json_schema`) or `structural_tag`."""

    type: Literal["text", "json_object", "json_schema", "structural_tag"]


class EngineStreamOptions(StreamOptions):
    continuous_usage_stats: bool = False


class _Extended(BaseModel):
    """vLLM's own fields of chat and text completions."""

    response_format: Format | None = None
    structured_outputs: dict[str, Any] | None = Field(
        None, description="One of `json`, `regex`, `choice`, `grammar`, `json_object`."
    )
    repetition_penalty: float | None = Field(None, gt=0)
    length_penalty: float | None = None
    use_beam_search: bool | None = None
    stop_token_ids: Few[list[int]] | None = None
    include_stop_str_in_output: bool | None = None
    min_tokens: int | None = Field(None, ge=0, le=8192)
    skip_special_tokens: bool | None = None
    spaces_between_special_tokens: bool | None = None
    truncate_prompt_tokens: int | None = None
    truncation_side: Literal["left", "right"] | None = None
    prompt_logprobs: int | None = Field(None, ge=0, le=20)
    logprob_token_ids: Few[list[int]] | None = None
    allowed_token_ids: TokenIds | None = None
    bad_words: Few[list[str]] | None = None
    add_special_tokens: bool | None = None
    priority: int | None = None
    return_tokens_as_token_ids: bool | None = None
    return_token_ids: bool | None = None
    return_prompt_text: bool | None = None
    cache_salt: str | None = None
    vllm_xargs: dict[str, Any] | None = None
    repetition_detection: dict[str, Any] | None = None
    stream_interval: int | None = Field(None, ge=1)


class EngineChatRequest(ChatRequest, _Extended):
    """The body of `POST /v1/chat/completions` for a model of such an engine."""

    messages: list[EngineMessage] = Field(  # type: ignore[assignment]
        min_length=1, max_length=MAX_MESSAGES, fail_fast=True
    )
    stream_options: EngineStreamOptions | None = None
    tools: Annotated[Few[list[Tool]], Field(min_length=1)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    response_format: Format | None = None  # type: ignore[assignment]
    reasoning_effort: Names | None = None
    include_reasoning: bool | None = None
    thinking_token_budget: int | None = None
    echo: bool | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    documents: Few[list[dict[str, Any]]] | None = None
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    media_io_kwargs: dict[str, Any] | None = None
    mm_processor_kwargs: dict[str, Any] | None = None

    def plain(self) -> bool:
        """Whether our own renderer can answer it: nothing that is the engine's alone."""
        if self.model_fields_set & _CHAT_ONLY_ENGINES or _counts(self.stream_options):
            return False
        if self.response_format is not None and self.response_format.type != "text":
            return False
        return all(_as_plain(message) is not None for message in self.messages)

    def plain_messages(self) -> tuple[dict[str, str], ...]:
        """The messages as a chat template reads them, of a request that is plain."""
        return tuple(plain.plain() for m in self.messages if (plain := _as_plain(m)) is not None)


class EngineCompletionRequest(CompletionRequest, _Extended):
    """The body of `POST /v1/completions` for a model of such an engine."""

    stream_options: EngineStreamOptions | None = None

    def plain(self) -> bool:
        """See EngineChatRequest."""
        return not (
            self.echo
            or self.model_fields_set & _COMPLETION_ONLY_ENGINES
            or _counts(self.stream_options)
        )


_CHAT_ONLY_ENGINES = frozenset(EngineChatRequest.model_fields) - set(ChatRequest.model_fields)
_COMPLETION_ONLY_ENGINES = frozenset(EngineCompletionRequest.model_fields) - set(
    CompletionRequest.model_fields
)


def _counts(options: EngineStreamOptions | None) -> bool:
    return options is not None and options.continuous_usage_stats


def _as_plain(message: EngineMessage) -> Message | None:
    """The message where it is of the guide's kind: a role of the three, and text."""
    content = message.content
    if message.role == "tool" or message.role == "developer" or content is None:
        return None
    if message.model_fields_set - {"role", "content", "name"}:
        return None
    if not isinstance(content, str):
        texts = [getattr(part, "text", None) for part in content if part.type == "text"]
        if len(texts) != len(content) or not all(isinstance(text, str) for text in texts):
            return None
        content = "".join(str(text) for text in texts)
    return Message.model_construct(role=message.role, content=content, name=message.name)
