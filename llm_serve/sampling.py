"""What an engine is asked to generate, and what it gives back piece by piece. Leaf vocabulary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FinishReason = Literal["stop", "length"]


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
    """How one sequence is sampled. Ranges were checked by `llm_serve.api.schemas.requests`.

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
    final_only: bool = False
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
