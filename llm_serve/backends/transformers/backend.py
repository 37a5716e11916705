"""The parts put together as a `Backend`: weights, engine, prompts, deltas of what is generated."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING

from llm_serve.backends.installed import REMEDY
from llm_serve.backends.output_decoder import OutputDecoder, Vocabulary
from llm_serve.backends.prompts import (
    chat_details,
    chat_format_of,
    chat_prompt,
    room_for,
    text_prompt,
)
from llm_serve.backends.tokens import ModelTokens
from llm_serve.config import ModelConfig, TransformersEngine
from llm_serve.errors import EngineDied, LoadFailed, ServeError
from llm_serve.progress import LoadProgress, ModelInfo, OnProgress
from llm_serve.sampling import Conversation, Delta, Prompt, Sampling

if TYPE_CHECKING:
    from llm_serve.backends.transformers.checkpoint import Checkpoint
    from llm_serve.backends.transformers.engine import Engine
    from llm_serve.backends.transformers.guides.guides import Guides

WARMUP = Sampling(temperature=0.0, max_tokens=2, ignore_eos=True)


class TransformersBackend:
    """The `Backend` of transformers' models; see the protocol."""

    def __init__(self, model: ModelConfig) -> None:
        assert isinstance(model.engine, TransformersEngine)
        self._config = model
        self._engine_config = model.engine
        self._checkpoint: Checkpoint
        self._engine: Engine
        self._vocabulary: Vocabulary
        self._guides: Guides
        self._longest = 0

    async def load(self, report: OnProgress) -> ModelInfo:
        # In a thread that ends: OpenMP keeps a team of threads for each one that has used torch,
        # and where two teams share the cores it puts waiting threads to sleep, between any two
        # products. Measured: 21 instead of 36 tokens/s alone, 140 instead of 230 for 8 clients.
        loader = ThreadPoolExecutor(1, "load")
        try:
            held_before = await asyncio.wrap_future(loader.submit(self._load, report))
        finally:
            loader.shutdown(wait=False)
        report(LoadProgress("warmup", 0.0))
        try:
            async for _ in self.generate(Prompt((0,) * 8), WARMUP):
                pass
        except EngineDied as error:
            raise self._could_not_run() from error
        report(LoadProgress("warmup", 1.0))
        return self._info(held_before)

    def _load(self, report: OnProgress) -> int:
        """Loads weights and engine. Returns the bytes that this process held before."""
        from llm_serve.models import resolve

        folder = resolve(self._config, report)
        report(LoadProgress("weights", 0.0))
        try:
            from llm_serve.backends.transformers import checkpoint
            from llm_serve.backends.transformers.guides.guides import Guides
        except ImportError as error:
            raise LoadFailed(REMEDY["transformers"]) from error
        held_before = checkpoint.held_bytes()
        checkpoint.take_device(self._config, self._engine_config)
        self._checkpoint = checkpoint.load(folder, self._config.id, self._engine_config)
        report(LoadProgress("weights", 1.0))
        self._engine = self._start()
        self._vocabulary = Vocabulary(self._checkpoint.tokenizer)
        self._guides = Guides(
            self._checkpoint.tokenizer,
            self._checkpoint.model.config.vocab_size,
            self._checkpoint.eos_token_ids,
        )
        self.chat_format = chat_format_of(
            self._checkpoint.tokenizer,
            self._engine_config.tool_call_parser,
            self._engine_config.reasoning_parser,
        )
        self._longest = min(self._checkpoint.context_length, self._engine.capacity)
        self.tokens = ModelTokens(self._checkpoint.tokenizer, self._longest)
        return held_before

    def _start(self) -> Engine:
        from llm_serve.backends.transformers import checkpoint, engine, kv_memory

        model = self._checkpoint.model
        try:
            layers = kv_memory.examine(model)
        except Exception as error:
            raise self._could_not_run() from error
        with checkpoint.explained(self._config.id):
            return engine.Engine(
                model,
                layers,
                eos_token_ids=self._checkpoint.eos_token_ids,
                kv_cache_tokens=self._engine_config.kv_cache_tokens,
                max_batch_tokens=self._engine_config.max_batch_tokens,
                max_running=self._config.max_running,
                prefix_cache=self._engine_config.prefix_cache,
            )

    def _could_not_run(self) -> LoadFailed:
        return LoadFailed(
            f"{self._config.id} could not run: its architecture may not support continuous "
            "batching, or memory is short. Lower engine.kv_cache_tokens, or choose another model."
        )

    def _info(self, held_before: int) -> ModelInfo:
        from llm_serve.backends.transformers import checkpoint

        model = self._checkpoint.model
        # A cache on the CPU is counted whole, though its pages become resident with use.
        certain = int(model.get_memory_footprint()) + self._engine.cache_bytes
        return ModelInfo(
            context_length=self._longest,
            footprint_bytes=max(certain, checkpoint.held_bytes() - held_before),
            dtype=str(model.dtype).removeprefix("torch."),
            device=str(model.device),
            engine_version=version("transformers"),
            details={
                "torch": version("torch"),
                "kv_cache_tokens": str(self._engine.capacity),
                **chat_details(self.chat_format),
            },
        )

    def encode_chat(self, conversation: Conversation) -> Prompt:
        return chat_prompt(
            self._checkpoint.tokenizer, self.chat_format, conversation, self._config.id
        )

    def encode_text(self, text: str) -> Prompt:
        return text_prompt(self._checkpoint.tokenizer, text)

    async def generate(self, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[Delta, None]:
        limit = room_for(
            prompt,
            sampling,
            self._config,
            context=self._longest,
            vocabulary=self._checkpoint.model.config.vocab_size,
        )
        constraint = None
        if sampling.guide is not None:
            constraint = await self._guides.constraint(
                sampling.guide, ignore_eos=sampling.ignore_eos
            )
        news = _News()
        request = self._engine.submit(prompt.token_ids, sampling, limit, news.put, constraint)
        decoder = OutputDecoder(
            self._vocabulary, sampling, request.logprobs, self._checkpoint.eos_token_ids
        )
        uncounted = self._engine.reuses
        try:
            while decoder.finish_reason is None:
                finished = await news.get()
                ended = request.ended if finished else None
                delta = decoder.extend(request.generated, finished=finished, ended=ended)
                if delta is None:
                    continue
                if uncounted:
                    uncounted = False
                    delta = replace(delta, cached_tokens=request.cached_tokens)
                yield delta
        finally:
            self._engine.release(request)

    async def check_health(self) -> None:
        self._engine.check()

    async def close(self) -> None:
        if hasattr(self, "_guides"):
            self._guides.close()
        if hasattr(self, "_engine"):
            await asyncio.to_thread(self._engine.stop)


class _News:
    """What the engine has told of a request, for the one task that reads it. The tokens are in the
    request, so a reader that comes late gets several at once."""

    def __init__(self) -> None:
        self._finished = False
        self._error: ServeError | None = None
        self._there = asyncio.Event()

    def put(self, finished: bool, error: ServeError | None) -> None:
        self._finished, self._error = finished, error
        self._there.set()

    async def get(self) -> bool:
        """Returns whether the request has finished; raises what it failed of."""
        await self._there.wait()
        self._there.clear()
        if self._error is not None:
            raise self._error
        return self._finished
