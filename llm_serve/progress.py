"""How far a load is, and what is known once it is done. Leaf vocabulary of models and backends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

Stage = Literal["starting", "download", "convert", "weights", "warmup"]


@dataclass(frozen=True, slots=True)
class LoadProgress:
    """How far a load is. `fraction` of this stage in 0..1, or None where it cannot be known."""

    stage: Stage
    fraction: float | None = None


OnProgress = Callable[[LoadProgress], None]
"""Takes progress from any thread; cheap and never raises."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What is known once a model is loaded."""

    context_length: int
    """Tokens, prompt and answer together; of an embedding model, of one input."""
    footprint_bytes: int
    """Memory that the model holds: weights, KV cache and engine."""
    dtype: str
    device: str
    engine_version: str
    details: dict[str, str] = field(default_factory=dict, hash=False)
    kind: Literal["text", "embedding", "rerank"] | None = None
    """What it gives, where its files or its engine have told."""
