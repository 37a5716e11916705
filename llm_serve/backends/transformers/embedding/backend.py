"""The parts put together as an `EmbeddingBackend`: weights, engine, token ids, vectors, scores."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import TYPE_CHECKING

from llm_serve.backends.base import Embedded, Ranked
from llm_serve.backends.installed import REMEDY
from llm_serve.backends.prompts import text_prompt
from llm_serve.backends.tokens import ModelTokens
from llm_serve.chat import ChatFormat
from llm_serve.config import ModelConfig, TransformersEngine
from llm_serve.errors import (
    EngineDied,
    InternalError,
    InvalidRequest,
    LoadFailed,
    UnsupportedParameter,
)
from llm_serve.progress import LoadProgress, ModelInfo, OnProgress
from llm_serve.sampling import Conversation, Delta, Prompt, Sampling

if TYPE_CHECKING:
    from llm_serve.backends.transformers.embedding.checkpoint import Checkpoint
    from llm_serve.backends.transformers.embedding.engine import Engine, Row
    from llm_serve.backends.transformers.embedding.reading import Reader

_MUCH = 20_000
"""Characters and token ids, or numbers of the answer, above which work leaves the event loop."""


class TransformersEmbedder:
    """The `EmbeddingBackend` of transformers' models, those that only rank among them; see the
    protocol."""

    def __init__(self, model: ModelConfig, *, ranks: bool = False) -> None:
        assert isinstance(model.engine, TransformersEngine)
        self._config = model
        self._ranks = ranks
        self.chat_format = ChatFormat()
        self._engine_config = model.engine
        self._checkpoint: Checkpoint
        self._engine: Engine
        self._reader: Reader
        self._size = 0

    async def load(self, report: OnProgress) -> ModelInfo:
        # In a thread that ends, so that one thread alone computes; see the backend of text models.
        loader = ThreadPoolExecutor(1, "load")
        try:
            held_before = await asyncio.wrap_future(loader.submit(self._load, report))
        finally:
            loader.shutdown(wait=False)
        report(LoadProgress("warmup", 0.0))
        try:
            await self._warm_up()
        except (EngineDied, InternalError) as error:
            await self.close()
            raise LoadFailed(
                f"{self._config.id} could not run: memory is short, or its architecture is no "
                "encoder of texts. Lower engine.max_batch_tokens, or choose another model."
            ) from error
        report(LoadProgress("warmup", 1.0))
        return self._info(held_before)

    def _load(self, report: OnProgress) -> int:
        """Loads weights and engine. Returns the bytes that this process held before."""
        from llm_serve.models import resolve

        folder = resolve(self._config, report)
        report(LoadProgress("weights", 0.0))
        try:
            from llm_serve.backends.transformers.checkpoint import held_bytes, take_device
            from llm_serve.backends.transformers.embedding import checkpoint
            from llm_serve.backends.transformers.embedding.engine import Engine
            from llm_serve.backends.transformers.embedding.reading import Reader
        except ImportError as error:
            raise LoadFailed(REMEDY["transformers"]) from error
        held_before = held_bytes()
        take_device(self._config, self._engine_config)
        self._checkpoint = checkpoint.load(
            folder, self._config.id, self._engine_config, ranks=self._ranks
        )
        self._reader = Reader(self._checkpoint, self._config.id)
        self.tokens = ModelTokens(self._checkpoint.tokenizer, self._checkpoint.longest)
        self._engine = Engine(self._checkpoint.encoder, self._engine_config.max_batch_tokens)
        report(LoadProgress("weights", 1.0))
        return held_before

    async def _warm_up(self) -> None:
        """Computes a batch as large as they come, so that its memory counts in the footprint."""
        from llm_serve.backends.transformers.embedding.engine import Input

        length = min(self._checkpoint.longest, self._engine_config.max_batch_tokens)
        (row,) = await self._engine.encode([Input([0] * length)])
        self._size = len(row)

    def _info(self, held_before: int) -> ModelInfo:
        from llm_serve.backends.transformers.checkpoint import held_bytes
        from llm_serve.backends.transformers.embedding.encoder import Ranker

        encoder, model = self._checkpoint.encoder, self._checkpoint.encoder.model
        if isinstance(encoder, Ranker):
            details = {"score": encoder.name}
        else:
            details = {
                "dimensions": str(self._size),
                "pooling": "+".join(encoder.pooling.modes),
                "normalized": "yes" if encoder.normalized else "no",
            }
        return ModelInfo(
            context_length=self._checkpoint.longest,
            footprint_bytes=max(int(model.get_memory_footprint()), held_bytes() - held_before),
            dtype=str(model.dtype).removeprefix("torch."),
            device=str(model.device),
            engine_version=version("transformers"),
            details={"torch": version("torch"), **details},
            kind="rerank" if self._ranks else "embedding",
        )

    async def embed(
        self, inputs: tuple[str | tuple[int, ...], ...], dimensions: int | None
    ) -> Embedded:
        if self._ranks:
            raise UnsupportedParameter(
                f"{self._config.id} ranks texts and gives no embeddings; use /v1/rerank, or name "
                "another model.",
                param="model",
            )
        if dimensions is not None and dimensions > self._size:
            raise InvalidRequest(
                f"dimensions: the vectors of {self._config.id} have {self._size} numbers; ask for "
                "as many or fewer.",
                param="dimensions",
            )
        if sum(map(len, inputs)) > _MUCH:
            read = await asyncio.to_thread(self._reader.inputs, inputs)
        else:
            read = self._reader.inputs(inputs)
        rows = await self._engine.encode(read)
        kept = dimensions or self._size
        if len(rows) * self._size > _MUCH:
            vectors = await asyncio.to_thread(self._finish, rows, kept)
        else:
            vectors = self._finish(rows, kept)
        return Embedded(vectors, sum(len(one.token_ids) for one in read))

    async def rank(self, query: str, documents: tuple[str, ...]) -> Ranked:
        """By the model's own score of query and document together, or by the cosine of both."""
        reads = self._reader.pairs if self._ranks else self._reader.query_and_documents
        if len(documents) * len(query) + sum(map(len, documents)) > _MUCH:
            read = await asyncio.to_thread(reads, query, documents)
        else:
            read = reads(query, documents)
        rows = await self._engine.encode(read)
        scores = [float(row[0]) for row in rows] if self._ranks else _cosines(rows)
        return Ranked(scores, sum(len(one.token_ids) for one in read))

    def _finish(self, rows: list[Row], kept: int) -> list[array[float]]:
        """The vectors cut to `kept` numbers, and of unit length again if they were."""
        import numpy as np

        values = np.stack(rows)[:, :kept]
        if kept < self._size and self._checkpoint.encoder.normalized:
            values = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
        return [array("f", row.tobytes()) for row in np.ascontiguousarray(values)]

    def encode_chat(self, conversation: Conversation) -> Prompt:
        raise self._no_text()

    def encode_text(self, text: str) -> Prompt:
        return text_prompt(self._checkpoint.tokenizer, text)

    async def generate(self, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[Delta, None]:
        raise self._no_text()
        yield  # which makes this a generator

    def _no_text(self) -> UnsupportedParameter:
        return UnsupportedParameter(
            f"{self._config.id} generates no text; use "
            f"{'/v1/rerank' if self._ranks else '/v1/embeddings'}, or name another model.",
            param="model",
        )

    async def check_health(self) -> None:
        self._engine.check()

    async def close(self) -> None:
        if hasattr(self, "_engine"):
            await asyncio.to_thread(self._engine.stop)


def _cosines(rows: list[Row]) -> list[float]:
    """Of the first row and each other one."""
    import numpy as np

    values = np.stack(rows)
    values = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
    return [float(score) for score in values[1:] @ values[0]]
