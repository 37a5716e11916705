"""What a request body may hold: the guide's fields and ranges first, then OpenAI's, then vLLM's.

A field that has no effect on the answer (an identifier, say) is accepted. One that asks for
something which cannot be done is refused by name: by the model's capabilities in
`llm_serve.api.parsing`, or here where no backend has it. Nothing is ignored. `null` means
"left out", as with OpenAI.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from llm_serve.api.schemas.chat.formats import Guided
from llm_serve.api.schemas.chat.tools import ToolChoice, ToolList
from llm_serve.api.schemas.chat.turns import Message
from llm_serve.api.schemas.values import (
    MAX_MESSAGES,
    Body,
    Few,
    FewKeys,
    LogitBias,
    Off,
    PromptInput,
    Stop,
    TextOrList,
)

MAX_TOKENS = 8192
"""The guide's upper end of `max_tokens` and `max_completion_tokens`."""


class StreamOptions(Body):
    """What a stream says besides the answer. A request that does not stream may not have them."""

    include_usage: bool = False
    include_obfuscation: Off = False


class Sampled(Guided, Body):
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


Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


class Prediction(Body):
    """What much of the answer will be, for a server that goes faster by it."""

    type: Literal["content"]
    content: TextOrList[str, Few[list[dict[str, Any]]]]


class ChatRequest(Sampled):
    """The body of `POST /v1/chat/completions`."""

    messages: list[Message] = Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)
    max_completion_tokens: int | None = Field(
        None, ge=1, le=MAX_TOKENS, description="Takes precedence over `max_tokens`."
    )
    logprobs: bool = False
    top_logprobs: int | None = Field(None, ge=0, le=20)
    tools: ToolList | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = Field(None, description="Left out: true.")
    reasoning_effort: Effort | None = Field(
        None, description="For the chat template; `none` asks a model that can to leave it out."
    )
    chat_template_kwargs: FewKeys[Any] | None = Field(
        None, description="More variables of the chat template. An extension."
    )
    modalities: Few[list[Literal["text"]]] | None = None
    store: Off = False
    service_tier: Literal["auto", "default"] | None = None
    verbosity: Literal["medium"] | None = None
    metadata: FewKeys[str] | None = Field(None, description="Accepted; has no effect.")
    safety_identifier: str | None = Field(None, description="Accepted; has no effect.")
    prompt_cache_key: str | None = Field(None, description="Accepted; has no effect.")
    prompt_cache_retention: Literal["in_memory", "in-memory", "24h"] | None = Field(
        None, description="Accepted; has no effect."
    )
    prediction: Prediction | None = Field(None, description="Accepted; has no effect.")


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
