"""The backend of a transformers' model: the files of the model tell which of those it is."""

from __future__ import annotations

import asyncio
from typing import Any

from llm_serve.backends.base import Backend
from llm_serve.config import Kind, ModelConfig
from llm_serve.progress import ModelInfo, OnProgress


class BackendByKind:
    """A `Backend` that becomes the one of its model's kind when it is loaded, and does from then on
    whatever that one does."""

    def __init__(self, model: ModelConfig) -> None:
        self._config = model
        self._chosen: Backend | None = None

    async def load(self, report: OnProgress) -> ModelInfo:
        if (kind := self._config.kind) is None:
            found: Kind = await asyncio.to_thread(self._look, report)
            kind = found
        self._chosen = _backend(kind, self._config)
        return await self._chosen.load(report)

    def _look(self, report: OnProgress) -> Kind:
        """The kind that the files say, which are fetched where they are not here."""
        from llm_serve.models import find, resolve
        from llm_serve.models.kind import kind_of

        return kind_of(find(self._config) or resolve(self._config, report))

    async def close(self) -> None:
        if self._chosen is not None:
            await self._chosen.close()

    def __getattr__(self, name: str) -> Any:
        """All else is the chosen one's; before the load there is nothing to ask for."""
        if name.startswith("__") or self._chosen is None:
            raise AttributeError(name)
        return getattr(self._chosen, name)


def _backend(kind: Kind, model: ModelConfig) -> Backend:
    if kind != "text":
        from llm_serve.backends.transformers.embedding.backend import TransformersEmbedder

        return TransformersEmbedder(model, ranks=kind == "rerank")
    from llm_serve.backends.transformers.backend import TransformersBackend

    return TransformersBackend(model)
