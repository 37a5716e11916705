"""What a request body may hold where the engine brings a server of its own (vLLM): OpenAI's fields
for tools, formats and reasoning, and the engine's extensions by its names for them.

The guide's fields keep their ranges. What is typed `Any` here is checked by the engine, which
answers 400 for it like the rest; a field that is in neither schema is refused by name.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field

from llm_serve.api.schemas.requests import (
    Body,
    Chat,
    ChatRequest,
    CompletionRequest,
    StreamOptions,
    Turn,
)
from llm_serve.api.schemas.values import TEXT, TOOL, Few, TextOrList, TokenIds


class _Open(BaseModel):
    """An object whose other members are the engine's to check."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)


class Part(_Open):
    """A piece of content: text, or what a multimodal model reads."""

    type: Literal["text", "image_url", "input_audio", "audio_url", "video_url", "refusal"]
    text: Any = None


class FunctionCall(Body):
    """A function that the model called, its arguments as JSON text."""

    name: str
    arguments: str


class ToolCall(Body):
    """A call of a former turn."""

    id: str
    type: Literal["function"]
    function: FunctionCall


class EngineMessage(Turn):
    """One turn of the conversation; which roles a model takes is up to its chat template."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: TextOrList[str, Annotated[Few[list[Part]], Field(min_length=1)]] | None = None
    tool_calls: Few[list[ToolCall]] | None = None
    tool_call_id: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None

    def is_plain(self) -> bool:
        """Whether it is of the guide's kind: a role of the three, and text."""
        if self.role in ("tool", "developer") or self.model_fields_set - {*Turn.model_fields}:
            return False
        return self.text() is not None


class Function(Body):
    """A function that the model may call; `parameters` is a JSON Schema."""

    name: Annotated[str, Field(min_length=1, max_length=256)]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Body):
    """A tool that the model may use."""

    type: Literal["function"]
    function: Function


class FunctionName(Body):
    """The function that is to be called."""

    name: str


class NamedTool(Body):
    """The tool that is to be used."""

    type: Literal["function"]
    function: FunctionName


ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], TEXT] | Annotated[NamedTool, TOOL],
    Discriminator(lambda value: (TOOL if isinstance(value, dict) else TEXT).tag),
]


class Format(_Open):
    """`text`, `json_object`, `json_schema` (with `json_schema`) or `structural_tag`."""

    type: Literal["text", "json_object", "json_schema", "structural_tag"]


class EngineStreamOptions(StreamOptions):
    """Also the counts so far, with every chunk."""

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


class EngineChatRequest(Chat[EngineMessage, Format], _Extended):
    """The body of `POST /v1/chat/completions` for a model of such an engine."""

    stream_options: EngineStreamOptions | None = None
    tools: Annotated[Few[list[Tool]], Field(min_length=1)] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = (
        None
    )
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

    def needs_engine(self) -> bool:
        """Whether anything in it is the engine's alone."""
        if self.model_fields_set & _CHAT_ONLY_ENGINES or _counts(self.stream_options):
            return True
        if self.response_format is not None and self.response_format.type != "text":
            return True
        return not all(message.is_plain() for message in self.messages)


class EngineCompletionRequest(CompletionRequest, _Extended):
    """The body of `POST /v1/completions` for a model of such an engine."""

    stream_options: EngineStreamOptions | None = None

    def needs_engine(self) -> bool:
        """See EngineChatRequest."""
        fields = self.model_fields_set & _COMPLETION_ONLY_ENGINES
        return bool(self.echo or fields or _counts(self.stream_options))


class EngineRequest(_Open):
    """The body of a route that the engine defines: the model and the stream are ours to read."""

    model: str | None = None
    stream: bool | None = None


_CHAT_ONLY_ENGINES = frozenset(EngineChatRequest.model_fields) - set(ChatRequest.model_fields)
_COMPLETION_ONLY_ENGINES = frozenset(EngineCompletionRequest.model_fields) - set(
    CompletionRequest.model_fields
)


def _counts(options: EngineStreamOptions | None) -> bool:
    return options is not None and options.continuous_usage_stats
