"""One vLLM engine behind the `Backend` seam, and vLLM's own server over the same engine."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import uuid
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from llm_serve.backends.installed import REMEDY
from llm_serve.backends.output_decoder import OutputDecoder, RawLogprob, Vocabulary, end_tokens
from llm_serve.backends.prompts import (
    chat_details,
    chat_prompt,
    room_for,
    text_prompt,
)
from llm_serve.backends.vllm import private
from llm_serve.config import AdapterConfig, ModelConfig, VllmEngine
from llm_serve.errors import (
    EngineDied,
    InternalError,
    InvalidRequest,
    LoadFailed,
    ServeError,
    without_paths,
)
from llm_serve.progress import LoadProgress, ModelInfo, OnProgress
from llm_serve.sampling import Conversation, Delta, Prompt, Sampling

if TYPE_CHECKING:
    from vllm import AsyncLLMEngine, SamplingParams
    from vllm.logprobs import Logprob

    from llm_serve.backends.vllm.inner_server import InnerServer
    from llm_serve.backends.vllm.startup_errors import Reasons
    from llm_serve.chat import ChatFormat

log = logging.getLogger("llm_serve.backends.vllm")
WARMUP = Sampling(temperature=0.0, max_tokens=2, ignore_eos=True)
_RUNNERS = {"text": "generate", "embedding": "pooling", "rerank": "pooling"}
"""vLLM's word for a model's kind."""
_DIED = "The engine died while it worked on this request; send it again."
_QUIET = {
    "VLLM_NO_USAGE_STATS": "1",  # nothing is reported to anyone
    "DO_NOT_TRACK": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",  # a fork of a process with threads may hang
}
"""Set before the import, unless the person has set them."""


class VllmBackend:
    """An `EngineServer`; see the protocol."""

    chat_format: ChatFormat

    def __init__(self, model: ModelConfig) -> None:
        assert isinstance(model.engine, VllmEngine)
        self._config = model
        self._section = model.engine.arguments
        if model.kind is not None:
            self._section.setdefault("runner", _RUNNERS[model.kind])
        self._engine: AsyncLLMEngine
        self._server: InnerServer
        self._reasons: Reasons
        self._vocabulary: Vocabulary
        self._tokenizer: Any
        self._adapters: dict[str, Any] = {}
        self._eos: tuple[int, ...] = ()
        self._longest = 0

    async def load(self, report: OnProgress) -> ModelInfo:
        from llm_serve.models import resolve

        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        folder = await asyncio.to_thread(resolve, self._config, report)
        adapters = {
            adapter.id: await asyncio.to_thread(resolve, as_model(adapter), report)
            for adapter in self._config.adapters
        }
        report(LoadProgress("weights"))
        held_before = await asyncio.to_thread(self._start, folder)
        report(LoadProgress("warmup", 0.0))
        try:
            await self._open(adapters)
            if "generate" in await self._engine.get_supported_tasks():
                async for _ in self.generate(Prompt((0,) * 8), WARMUP):
                    pass
        except LoadFailed:
            await self.close()
            raise
        except Exception as error:
            reason = self._reasons.first() or "the replica's log has the reason."
            await self.close()
            raise LoadFailed(
                f"{self._config.id}: vLLM loaded it, but it does not run: {reason}"
            ) from error
        report(LoadProgress("warmup", 1.0))
        return await self._info(held_before)

    def _start(self, folder: Path) -> int:
        """Starts the engine, which takes a minute and more. Returns the bytes held before."""
        held_before = held_bytes()
        try:
            from vllm import AsyncLLMEngine
        except ImportError as error:
            raise LoadFailed(REMEDY["vllm"]) from error
        private.check()
        from vllm.platforms import current_platform
        from vllm.usage.usage_lib import UsageContext

        from llm_serve.backends.vllm.arguments import engine_args, first_line, server_args
        from llm_serve.backends.vllm.startup_errors import Reasons

        model_id = self._config.id
        args, server = engine_args(
            self._section, model_id, folder, on_cpu=current_platform.is_cpu()
        )
        self._args = args
        self._on_cpu = current_platform.is_cpu()
        if self._config.adapters:
            args.enable_lora = True
        try:
            config = args.create_engine_config(UsageContext.OPENAI_API_SERVER)  # its defaults
        except (ValueError, TypeError, NotImplementedError, AssertionError) as error:
            raise LoadFailed(f"{model_id}: engine: {first_line(error)}") from error
        self._server_args = server_args(server, args, model_id)
        self._reasons = Reasons(config)
        before = multiprocessing.active_children()
        try:
            self._engine = AsyncLLMEngine.from_vllm_config(config)
        except Exception as error:
            reason = self._reasons.first() or first_line(error)
            self._reasons.close()
            raise LoadFailed(f"{model_id}: vLLM could not start its engine: {reason}") from error
        self._processes = [p for p in multiprocessing.active_children() if p not in before]
        return held_before

    async def _open(self, adapters: Mapping[str, Path]) -> None:
        """Puts vLLM's server over the engine. It listens nowhere."""
        from vllm.lora.request import LoRARequest

        from llm_serve.backends.vllm import refusals, tools
        from llm_serve.backends.vllm.inner_server import InnerServer

        self._tokenizer = self._engine.get_tokenizer()
        self.chat_format = tools.arrange(self._server_args, self._section, self._tokenizer)
        tasks = await self._engine.get_supported_tasks()
        self._adapters = {
            name: LoRARequest(lora_name=name, lora_int_id=number, lora_path=str(path))
            for number, (name, path) in enumerate(adapters.items(), 1)
        }
        app = private.open_server(self._engine, self._server_args, tasks)
        refusals.install()
        await private.fill_state(app, self._engine, self._server_args, tasks, self._adapters)
        self._longest = int(self._engine.model_config.max_model_len)
        self._server = InnerServer(app, self._longest)
        self._vocabulary = Vocabulary(self._tokenizer)
        generation = self._engine.model_config.try_get_generation_config()
        self._eos = end_tokens(generation.get("eos_token_id"), self._tokenizer)

    async def _info(self, held_before: int) -> ModelInfo:
        config = self._engine.vllm_config
        tasks = await self._engine.get_supported_tasks()
        cache = config.cache_config
        blocks, size = cache.num_gpu_blocks or 0, cache.block_size
        return ModelInfo(
            context_length=self._longest,
            footprint_bytes=self._footprint(held_before),
            dtype=str(config.model_config.dtype).removeprefix("torch."),
            device=str(config.device_config.device_type),
            engine_version=private.installed_version(),
            details={
                "kv_cache_tokens": str(blocks * size),
                "tasks": ", ".join(sorted(tasks)),
                **chat_details(self.chat_format),
                "tool_call_parser": self._server_args.tool_call_parser or "none",
            },
            kind="embedding" if "embed" in tasks and "generate" not in tasks else None,
        )

    def _footprint(self, held_before: int) -> int:
        cache = self._engine.vllm_config.cache_config
        if self._on_cpu:
            # The cache is counted whole, though its pages become resident with use.
            return held_bytes() - held_before + int(cache.kv_cache_memory_bytes or 0)
        from vllm.platforms import current_platform

        world = self._engine.vllm_config.parallel_config.world_size
        each = current_platform.get_device_total_memory() * cache.gpu_memory_utilization
        return int(each * world)

    def encode_chat(self, conversation: Conversation) -> Prompt:
        return chat_prompt(self._tokenizer, self.chat_format, conversation, self._config.id)

    def encode_text(self, text: str) -> Prompt:
        return text_prompt(self._tokenizer, text)

    async def generate(self, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[Delta, None]:
        from vllm import TokensPrompt

        tokens: list[int] = []
        logprobs: list[RawLogprob] = []
        decoder = OutputDecoder(self._vocabulary, sampling, logprobs, self._eos)
        with self._explained():
            outputs = self._engine.generate(
                TokensPrompt(prompt_token_ids=list(prompt.token_ids)),
                self._params(prompt, sampling),
                uuid.uuid4().hex,
                lora_request=self._adapters.get(sampling.adapter or ""),
            )
            async with aclosing(outputs):
                async for output in outputs:
                    (sequence,) = output.outputs
                    tokens.extend(sequence.token_ids)
                    if sequence.logprobs:
                        pairs = zip(sequence.token_ids, sequence.logprobs, strict=True)
                        logprobs.extend(_raw(t, e, sampling.logprobs or 0) for t, e in pairs)
                    delta = decoder.extend(tokens, finished=output.finished)
                    if delta is not None:
                        if len(tokens) == delta.tokens:
                            delta = replace(delta, cached_tokens=output.num_cached_tokens)
                        yield delta
                    if decoder.finish_reason is not None:
                        return

    async def serve(self, path: str, body: bytes) -> AsyncGenerator[bytes, None]:
        with self._explained():
            async with aclosing(self._server.post(path, body)) as messages:
                async for message in messages:
                    yield message

    def _params(self, prompt: Prompt, sampling: Sampling) -> SamplingParams:
        """vLLM's sampling parameters. Raises InvalidRequest and PromptTooLong."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        room = room_for(
            prompt,
            sampling,
            self._config,
            context=self._longest,
            vocabulary=self._engine.model_config.get_vocab_size(),
        )
        # Steps that nobody reads cost this process a turn each; a stop string is looked for here.
        whole = sampling.final_only and not sampling.stop
        return SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            min_p=sampling.min_p,
            presence_penalty=sampling.presence_penalty,
            frequency_penalty=sampling.frequency_penalty,
            logit_bias=dict(sampling.logit_bias) or None,
            seed=sampling.seed,
            max_tokens=room,
            logprobs=sampling.logprobs,
            ignore_eos=sampling.ignore_eos,
            detokenize=False,  # `output_decoder` does it, the same for every backend
            output_kind=RequestOutputKind.FINAL_ONLY if whole else RequestOutputKind.DELTA,
            skip_clone=True,
        )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turns what vLLM raises into our errors."""
        from vllm.exceptions import VLLMClientError

        try:
            yield
        except ServeError:
            if getattr(self._engine, "errored", False):
                raise EngineDied(_DIED) from None
            raise
        except VLLMClientError as error:
            said = without_paths(str(error))
            raise InvalidRequest(said, param=getattr(error, "parameter", None)) from None
        except Exception as error:
            if self._engine.errored:
                raise EngineDied(_DIED) from None
            log.exception("vLLM failed on a request")
            raise InternalError("The engine failed on this request.") from error

    def unfinished(self) -> int:
        """Requests that the engine runs or queues."""
        return int(self._engine.get_num_unfinished_requests())

    async def check_health(self) -> None:
        """Looks at the engine's process itself, too: vLLM was seen not to notice its death."""
        await self._engine.check_health()
        if not all(process.is_alive() for process in self._processes):
            raise EngineDied(_DIED)

    async def close(self) -> None:
        if hasattr(self, "_engine"):
            await asyncio.to_thread(private.stop(self._engine))
            self._reasons.close()


def check_section(model: ModelConfig) -> None:
    """Raises LoadFailed for an engine section with a key that vLLM does not have."""
    assert isinstance(model.engine, VllmEngine)
    try:
        import vllm  # noqa: F401
    except ImportError as error:
        raise LoadFailed(REMEDY["vllm"]) from error
    from llm_serve.backends.vllm.arguments import check_keys

    try:
        check_keys(model.engine.arguments, model.id)
    except ImportError:
        private.check()
        raise


def as_model(adapter: AdapterConfig) -> ModelConfig:
    """The adapter as a model, since it comes from where models come from."""
    return ModelConfig(id=adapter.id, source=adapter.source)


def held_bytes() -> int:
    """Memory of this process and of the engine's, which are its children. What they share (the
    libraries alone are near a GiB in each) counts once where the system tells it, as Linux does."""
    process = psutil.Process()
    total = 0
    for one in (process, *process.children(recursive=True)):
        with suppress(psutil.Error):
            memory = one.memory_full_info()
            total += getattr(memory, "pss", memory.rss)
    return int(total)


def _raw(token: int, entry: Mapping[int, Logprob], wanted: int) -> RawLogprob:
    """vLLM gives the sampled token, then as many of the likeliest as wanted; it may be of them."""
    likeliest = [(i, one.logprob) for i, one in entry.items() if (one.rank or 0) <= wanted]
    likeliest.sort(key=lambda pair: -pair[1])
    return entry[token].logprob, [i for i, _ in likeliest], [value for _, value in likeliest]
