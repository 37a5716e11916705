"""What a request body may hold beside that where the engine brings a server of its own (vLLM): its
extensions, by its names for them.

What is typed `Any` here is checked by the engine, which answers 400 for it like the rest; a field
that is in neither schema is refused by name.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from llm_serve.api.schemas.requests import ChatRequest, CompletionRequest, StreamOptions
from llm_serve.api.schemas.values import Few, TokenIds


class EngineStreamOptions(StreamOptions):
    """Also the counts so far, with every chunk."""

    continuous_usage_stats: bool = False


class _Extended(BaseModel):
    """vLLM's own fields of chat and text completions."""

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

    stream_options: EngineStreamOptions | None = None
    include_reasoning: bool | None = None
    thinking_token_budget: int | None = None
    echo: bool | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    documents: Few[list[dict[str, Any]]] | None = None
    chat_template: str | None = None
    media_io_kwargs: dict[str, Any] | None = None
    mm_processor_kwargs: dict[str, Any] | None = None

    def needs_engine(self) -> bool:
        """Whether its own server does something in it that our renderer does not."""
        if self.model_fields_set & _CHAT_BY_ENGINE or _counts(self.stream_options):
            return True
        return not all(message.is_plain for message in self.messages)


class EngineCompletionRequest(CompletionRequest, _Extended):
    """The body of `POST /v1/completions` for a model of such an engine."""

    stream_options: EngineStreamOptions | None = None

    def needs_engine(self) -> bool:
        """See EngineChatRequest."""
        fields = self.model_fields_set & _COMPLETION_BY_ENGINE
        return bool(self.echo or fields or _counts(self.stream_options))


class EngineRequest(BaseModel):
    """The body of a route that the engine defines: the model and the stream are ours to read."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    model: str | None = None
    stream: bool | None = None


_CHAT_BY_ENGINE = frozenset(EngineChatRequest.model_fields) - set(ChatRequest.model_fields) | {
    "tools",
    "chat_template_kwargs",
    "reasoning_effort",
}
_COMPLETION_BY_ENGINE = frozenset(EngineCompletionRequest.model_fields) - set(
    CompletionRequest.model_fields
)


def _counts(options: EngineStreamOptions | None) -> bool:
    return options is not None and options.continuous_usage_stats
