"""The seam between serving and engines: what a backend is given, what it yields, what it can do.

Nothing here imports an engine. A backend serves one model for the life of its process.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

FinishReason = Literal["stop", "length"]
Stage = Literal["starting", "download", "convert", "weights", "warmup"]


@dataclass(frozen=True, slots=True)
class LoadProgress:
    """How far a load is. `fraction` of this stage in 0..1, or None where it cannot be known."""

    stage: Stage
    fraction: float | None = None


Report = Callable[[LoadProgress], None]
"""Takes progress from any thread; cheap and never raises."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A tokenized prompt."""

    token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Guide:
    """What the text must be: JSON, of this schema (JSON text) where there is one."""

    schema: str | None = None


@dataclass(frozen=True, slots=True)
class Sampling:
    """How one sequence is sampled. Ranges were checked by `llm_serve.api.schemas`.

    `temperature` 0 is greedy. `seed` None draws a fresh one. `logprobs` is None for none, else how
    many alternatives to give beside the sampled token (0..20). `stop` holds non-empty strings.
    `max_tokens` None means the backend's default; it is always cut to what the context leaves.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    seed: int | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    ignore_eos: bool = False
    guide: Guide | None = None
    whole: bool = False
    """Nobody reads before the end: an engine may give everything at once."""
    adapter: str | None = None
    """The LoRA adapter to sample from; None is the model itself."""


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One sampled token: its text, its exact bytes, its natural-log probability, alternatives."""

    token: str
    token_bytes: bytes
    logprob: float
    top: tuple[tuple[str, bytes, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Delta:
    """What one sequence gained since its last delta.

    `text` holds whole characters only and may be empty. `tokens` counts the sampled tokens that
    this delta stands for, the end-of-sequence token included. The last delta, and only the last,
    has a `finish_reason`.
    """

    text: str
    tokens: int
    finish_reason: FinishReason | None = None
    logprobs: tuple[TokenLogprob, ...] = ()
    cached_tokens: int | None = None
    """Tokens of the prompt whose KV cache was there already; None where that is not counted."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do beyond messages, temperature, top_p, max_tokens, stop and stream."""

    chat: bool = True
    completions: bool = True
    n: bool = False
    seed: bool = False
    penalties: bool = False
    logit_bias: bool = False
    logprobs: bool = False
    top_logprobs: bool = False
    top_k: bool = False
    min_p: bool = False
    echo: bool = False
    tools: bool = False
    response_format: bool = False
    reasoning: bool = False
    extensions: bool = False
    """The engine's own request fields, beyond OpenAI's."""
    embeddings: bool = False
    responses: bool = False
    messages: bool = False
    tokenize: bool = False
    adapters: bool = False


class Backend(Protocol):
    """One engine with one model.

    `load` runs once, before anything else, and may take minutes; it raises `LoadFailed` with a
    sentence for the person. `generate` raises `PromptTooLong` before its first delta, and any
    `ServeError` later; closing the iterator (`aclose`, or cancelling its task) aborts the sequence
    in the engine within a second. `check_health` raises when the engine can no longer answer.
    """

    async def load(self, report: Report) -> ModelInfo: ...

    def encode_chat(self, messages: list[dict[str, str]]) -> Prompt: ...

    def encode_text(self, text: str) -> Prompt: ...

    def generate(self, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[Delta, None]: ...

    async def check_health(self) -> None: ...

    async def close(self) -> None: ...


class EngineServer(Backend, Protocol):
    """A backend whose engine brings a server of its own.

    `serve` runs one request on it: the body of an answer, or its server-sent events. It raises
    ServeError, before its first message or later; closing it aborts the request.
    """

    def serve(self, path: str, body: bytes) -> AsyncGenerator[bytes, None]: ...


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What is known once a model is loaded."""

    context_length: int
    """Tokens, prompt and answer together."""
    footprint_bytes: int
    """Memory that the model holds: weights, KV cache and engine."""
    dtype: str
    device: str
    engine_version: str
    details: dict[str, str] = field(default_factory=dict)
