"""The parts put together as an `EmbeddingBackend`: weights, engine, token ids, vectors."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import TYPE_CHECKING

from llm_serve.backends.base import Embedded
from llm_serve.backends.prompts import text_prompt
from llm_serve.chat import ChatFormat
from llm_serve.config import ModelConfig, TransformersEngine
from llm_serve.errors import (
    EngineDied,
    InternalError,
    InvalidRequest,
    LoadFailed,
    PromptTooLong,
    UnsupportedParameter,
)
from llm_serve.progress import LoadProgress, ModelInfo, OnProgress
from llm_serve.sampling import Conversation, Delta, Prompt, Sampling

if TYPE_CHECKING:
    from llm_serve.backends.transformers.embedding.checkpoint import Checkpoint
    from llm_serve.backends.transformers.embedding.engine import Engine, Input, Row

_MUCH = 20_000
"""Characters and token ids, or numbers of the answer, above which work leaves the event loop."""


class TransformersEmbedder:
    """The `EmbeddingBackend` of transformers' models; see the protocol."""

    def __init__(self, model: ModelConfig) -> None:
        assert isinstance(model.engine, TransformersEngine)
        self._config = model
        self.chat_format = ChatFormat()
        self._engine_config = model.engine
        self._checkpoint: Checkpoint
        self._engine: Engine
        self._size = 0
        self._prompt_tokens = 0

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
        from llm_serve.backends.installed import check_installed
        from llm_serve.models import resolve
        from llm_serve.models.footprint import estimate

        folder = resolve(self._config, report)
        report(LoadProgress("weights", 0.0))
        check_installed(self._config)
        from llm_serve.backends.transformers.checkpoint import held_bytes, use_threads
        from llm_serve.backends.transformers.embedding import checkpoint
        from llm_serve.backends.transformers.embedding.engine import Engine
        from llm_serve.models import gpu_memory, precision

        held_before = held_bytes()
        use_threads(self._engine_config.threads)
        device = precision.pick_device(self._engine_config.device)
        if device.type == "cuda":
            needed = estimate(self._config, here=True)
            gpu_memory.wait_until_free(device, needed, self._config.id)
        self._checkpoint = checkpoint.load(folder, self._config.id, self._engine_config)
        self._prompt_tokens = self._count_prompt()
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

        encoder, model = self._checkpoint.encoder, self._checkpoint.encoder.model
        return ModelInfo(
            context_length=self._checkpoint.longest,
            footprint_bytes=max(int(model.get_memory_footprint()), held_bytes() - held_before),
            dtype=str(model.dtype).removeprefix("torch."),
            device=str(model.device),
            engine_version=version("transformers"),
            details={
                "torch": version("torch"),
                "dimensions": str(self._size),
                "pooling": "+".join(encoder.pooling.modes),
                "normalized": "yes" if encoder.normalized else "no",
            },
            kind="embedding",
        )

    async def embed(
        self, inputs: tuple[str | tuple[int, ...], ...], dimensions: int | None
    ) -> Embedded:
        if dimensions is not None and dimensions > self._size:
            raise InvalidRequest(
                f"dimensions: the vectors of {self._config.id} have {self._size} numbers; ask for "
                "as many or fewer.",
                param="dimensions",
            )
        if sum(map(len, inputs)) > _MUCH:
            read = await asyncio.to_thread(self._read, inputs)
        else:
            read = self._read(inputs)
        rows = await self._engine.encode(read)
        kept = dimensions or self._size
        if len(rows) * self._size > _MUCH:
            vectors = await asyncio.to_thread(self._finish, rows, kept)
        else:
            vectors = self._finish(rows, kept)
        return Embedded(vectors, sum(len(one.token_ids) for one in read))

    def _read(self, inputs: Sequence[str | tuple[int, ...]]) -> list[Input]:
        """The inputs as token ids. Raises PromptTooLong and InvalidRequest."""
        from llm_serve.backends.transformers.embedding.engine import Input

        texts = iter(self._encode([one for one in inputs if isinstance(one, str)]))
        read = [
            Input(next(texts), self._prompt_tokens) if isinstance(one, str) else Input(one)
            for one in inputs
        ]
        for number, one in enumerate(read):
            self._check(one.token_ids, f"input[{number}]" if len(read) > 1 else "input")
        return read

    def _encode(self, texts: list[str]) -> list[list[int]]:
        if not texts:
            return []
        found = self._checkpoint
        prepared = [found.prompt + text for text in texts]
        if found.lower_case:
            prepared = [text.lower() for text in prepared]
        encoded = found.tokenizer(
            prepared, padding=False, truncation=False, return_attention_mask=False, verbose=False
        )
        ids: list[list[int]] = encoded["input_ids"]
        return ids

    def _check(self, ids: Sequence[int], name: str) -> None:
        longest, last = self._checkpoint.longest, self._checkpoint.vocabulary - 1
        if len(ids) > longest:
            raise PromptTooLong(
                f"{name} has {len(ids)} tokens and {self._config.id} takes {longest} at once; "
                "split it, or shorten it.",
                param="input",
            )
        if not ids:
            raise InvalidRequest(f"{name} has no tokens; send a longer text.", param="input")
        if min(ids) < 0 or max(ids) > last:
            raise InvalidRequest(
                f"{name} has token ids that {self._config.id} does not know; its own are from 0 to "
                f"{last}. Send texts where the ids come from another model's tokenizer.",
                param="input",
            )

    def _count_prompt(self) -> int:
        """Tokens of the prompt, without a special one at its end. Settles the tokenizer as well:
        from here on no call changes it, so that threads may use it together."""
        (ids,) = self._encode([""])
        if not self._checkpoint.prompt:
            return 0
        return len(ids) - (ids[-1] in self._checkpoint.tokenizer.all_special_ids)

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
            f"{self._config.id} gives embeddings and generates no text; use /v1/embeddings, or "
            "name another model.",
            param="model",
        )

    async def check_health(self) -> None:
        self._engine.check()

    async def close(self) -> None:
        if hasattr(self, "_engine"):
            await asyncio.to_thread(self._engine.stop)
