"""Embedding models, loaded for a test and stopped at its end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llm_serve.backends.transformers.embedding.backend import TransformersEmbedder
from llm_serve.config import ModelConfig

Load = Callable[..., Awaitable[TransformersEmbedder]]


@pytest.fixture
async def load() -> AsyncIterator[Load]:
    """Loads the model in a folder, in float32 on the CPU; keywords are of its engine."""
    loaded = []

    async def load(folder: Path, kind: str = "embedding", **engine: Any) -> TransformersEmbedder:
        settings = {"dtype": "float32", "device": "cpu", "threads": 1, **engine}
        config = {"id": "e", "source": str(folder), "kind": kind, "engine": settings}
        backend = TransformersEmbedder(ModelConfig.model_validate(config), ranks=kind == "rerank")
        await backend.load(lambda progress: None)
        loaded.append(backend)
        return backend

    yield load
    for backend in loaded:
        await backend.close()


async def vectors(
    backend: TransformersEmbedder, inputs: list[Any], dimensions: int | None = None
) -> Any:
    """The vectors as `[inputs, size]`."""
    embedded = await backend.embed(tuple(inputs), dimensions)
    return np.array([list(vector) for vector in embedded.vectors], dtype=np.float32)
