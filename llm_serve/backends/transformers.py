"""The transformers backend: any causal language model, with continuous batching, on any device.

`checkpoint` reads the weights, `continuous` runs the engine, `sampler` chooses tokens, `text` and
`transcript` make deltas of them. Here they are put together as a `Backend`. The first three import
torch and transformers, which takes seconds: that happens in the thread that loads.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import TYPE_CHECKING

from llm_serve.backends.base import Delta, LoadProgress, ModelInfo, Prompt, Report, Sampling
from llm_serve.backends.prompts import chat_prompt, room_for, text_prompt
from llm_serve.backends.transcript import Transcript, Vocabulary
from llm_serve.config import ModelConfig, TransformersEngine
from llm_serve.errors import EngineDied, LoadFailed

if TYPE_CHECKING:
    from transformers.generation.continuous_batching.requests import GenerationOutput

    from llm_serve.backends.checkpoint import Checkpoint
    from llm_serve.backends.continuous import Engine

WARMUP = Sampling(temperature=0.0, max_tokens=2, ignore_eos=True)


class TransformersBackend:
    """A `Backend`; see the protocol."""

    def __init__(self, model: ModelConfig) -> None:
        assert isinstance(model.engine, TransformersEngine)
        self._config = model
        self._engine_config = model.engine
        self._checkpoint: Checkpoint
        self._engine: Engine
        self._vocabulary: Vocabulary
        self._longest = 0

    async def load(self, report: Report) -> ModelInfo:
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
            raise LoadFailed(
                f"{self._config.id} could not run: its architecture may not support continuous "
                "batching, or memory is short. Lower engine.kv_cache_tokens, or choose another "
                "model."
            ) from error
        report(LoadProgress("warmup", 1.0))
        return self._info(held_before)

    def _load(self, report: Report) -> int:
        """Returns the bytes held before."""
        from llm_serve.models import resolve
        from llm_serve.models.footprint import estimate

        folder = resolve(self._config, report)
        report(LoadProgress("weights", 0.0))
        try:
            from llm_serve.backends import checkpoint, continuous, gpu_memory, precision
        except ImportError as error:
            raise LoadFailed(
                "The transformers backend is not installed: pip install 'llm-serve[transformers]'."
            ) from error
        held_before = checkpoint.held_bytes()
        checkpoint.use_threads(self._engine_config.threads)
        device = precision.pick_device(self._engine_config.device)
        if device.type == "cuda":
            needed = estimate(self._config, here=True)
            gpu_memory.wait_until_free(device, needed, self._config.id)
        self._checkpoint = checkpoint.load(folder, self._config.id, self._engine_config)
        report(LoadProgress("weights", 1.0))
        with checkpoint.explained(self._config.id):
            self._engine = continuous.Engine(
                self._checkpoint.model,
                eos_token_ids=self._checkpoint.eos_token_ids,
                kv_cache_tokens=self._engine_config.kv_cache_tokens,
                max_batch_tokens=self._engine_config.max_batch_tokens,
                max_running=self._config.max_running,
            )
        self._vocabulary = Vocabulary(self._checkpoint.tokenizer)
        self._longest = min(self._checkpoint.context_length, self._engine.capacity)
        return held_before

    def _info(self, held_before: int) -> ModelInfo:
        from llm_serve.backends import checkpoint

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
            },
        )

    def encode_chat(self, messages: list[dict[str, str]]) -> Prompt:
        return chat_prompt(self._checkpoint.tokenizer, messages, self._config.id)

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
        outputs = _Latest()
        request_id, sequence = self._engine.submit(prompt.token_ids, sampling, limit, outputs.put)
        transcript = Transcript(
            self._vocabulary, sampling, sequence.logprobs, self._checkpoint.eos_token_ids
        )
        finished = False
        try:
            while transcript.finish_reason is None:
                output = await outputs.get()
                finished = output.is_finished()
                if output.error is not None:
                    raise EngineDied("The engine stopped while it worked on the request.")
                delta = transcript.extend(output.generated_tokens, finished=finished)
                if delta is not None:
                    yield delta
        finally:
            self._engine.release(request_id, finished=finished)

    async def check_health(self) -> None:
        self._engine.check()

    async def close(self) -> None:
        if hasattr(self, "_engine"):
            await asyncio.to_thread(self._engine.stop)


class _Latest:
    """The newest output of a sequence. Outputs hold all tokens so far, so older ones can go: a
    reader that comes late gets several tokens at once."""

    def __init__(self) -> None:
        self._output: GenerationOutput | None = None
        self._there = asyncio.Event()

    def put(self, output: GenerationOutput) -> None:
        self._output = output
        self._there.set()

    async def get(self) -> GenerationOutput:
        await self._there.wait()
        self._there.clear()
        return self._output
