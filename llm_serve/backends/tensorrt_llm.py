"""The TensorRT-LLM backend, on its LLM API. Written against version 1.2, not run on hardware yet.

`USED` lists what is used of the package; tests hold it against a record of the real one, and where
the package is installed, against the package itself (`pytest -m gpu`). Text is made of the tokens
here, the same way as for every backend, so that stop strings and characters are right.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import os
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any

from llm_serve.backends import engine_keys
from llm_serve.backends.installed import REMEDY
from llm_serve.backends.output_decoder import OutputDecoder, RawLogprob, Vocabulary, end_tokens
from llm_serve.backends.prompts import (
    chat_details,
    chat_format_of,
    chat_prompt,
    room_for,
    text_prompt,
)
from llm_serve.backends.tensorrt_params import parameters, raw_logprob
from llm_serve.backends.tokens import ModelTokens
from llm_serve.config import ModelConfig, TensorrtEngine
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

log = logging.getLogger("llm_serve.backends.tensorrt_llm")
WARMUP = Sampling(temperature=0.0, max_tokens=2, ignore_eos=True)
USED: dict[str, tuple[str, ...]] = {
    "LLM": ("generate_async", "shutdown"),
    "LLM.__init__": ("model", "tokenizer", "trust_remote_code"),
    "LLM.generate_async": ("inputs", "sampling_params", "streaming"),
    "TorchLlmArgs": ("guided_decoding_backend", "max_batch_size"),
    "SamplingParams": (
        *("end_id", "pad_id", "stop_token_ids", "max_tokens", "ignore_eos", "detokenize"),
        *("temperature", "top_p", "top_k", "min_p", "seed", "logprobs"),
        *("presence_penalty", "frequency_penalty", "embedding_bias", "guided_decoding"),
    ),
    "GuidedDecodingParams": ("json", "json_object", "regex", "grammar"),
    "RequestOutput": ("outputs", "finished", "abort", "__anext__"),
    "CompletionOutput": ("token_ids", "logprobs", "finish_reason"),
    "Logprob": ("logprob", "rank"),
}
"""Classes and functions of `tensorrt_llm`, and of each the parameters or members that we use."""

OURS = {
    "model": "name the weights in `source`",
    "tokenizer": "the tokenizer comes with the weights",
    "revision": "name the revision in `source`",
    "tokenizer_revision": "name the revision in `source`",
    "skip_tokenizer_init": "the tokenizer is ours already",
    "trust_remote_code": "code from a checkpoint is never run",
}
"""Keywords of `LLM` that this project decides, and where the person does it instead."""


class TensorrtBackend:
    """A `Backend`; see the protocol."""

    def __init__(self, model: ModelConfig) -> None:
        assert isinstance(model.engine, TensorrtEngine)
        self._config = model
        self._section = model.engine.arguments
        self._gpus = model.engine.gpus
        self._llm: Any = None
        self._tokenizer: Any = None
        self._vocabulary: Vocabulary
        self._eos: tuple[int, ...] = ()
        self._longest = 0
        self._ids = 0
        self._failed = False

    async def load(self, report: OnProgress) -> ModelInfo:
        from llm_serve.models import resolve

        folder = await asyncio.to_thread(resolve, self._config, report)
        report(LoadProgress("weights"))
        # Off the event loop: it takes minutes, and starts a loop of its own where it finds none.
        await asyncio.to_thread(self._start, folder)
        report(LoadProgress("warmup", 0.0))
        try:
            async for _ in self.generate(Prompt((0,) * 8), WARMUP):
                pass
        except ServeError as error:
            await self.close()
            raise LoadFailed(
                f"{self._config.id}: TensorRT-LLM loaded it, but it does not run."
            ) from error
        report(LoadProgress("warmup", 1.0))
        return self._info(folder)

    def _start(self, folder: Path) -> None:
        model_id = self._config.id
        if self._gpus <= 1:
            # Without it, one GPU too is driven through MPI, which a Ray worker is no place for.
            os.environ.setdefault("TLLM_WORKER_USE_SINGLE_PROCESS", "1")
        package = imported(model_id)
        check_keywords(self._section, model_id)
        self._read(folder)
        keywords = {
            "max_batch_size": self._config.max_running,
            "guided_decoding_backend": "xgrammar",
            **self._section,
        }
        try:
            self._llm = package.LLM(
                model=str(folder), tokenizer=str(folder), trust_remote_code=False, **keywords
            )
        except Exception as error:
            raise LoadFailed(f"{model_id}: TensorRT-LLM: {_reason(error)}") from error

    def _read(self, folder: Path) -> None:
        """The tokenizer, and what the files say of the model."""
        from transformers import AutoTokenizer

        try:
            self._tokenizer = AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
            config = json.loads((folder / "config.json").read_text())
        except (OSError, ValueError) as error:
            raise LoadFailed(
                f"Files of {self._config.id} are missing or broken. Fetch the model again."
            ) from error
        text = config.get("text_config", config)
        longest = int(text.get("max_position_embeddings", 2048))
        self._longest = min(longest, int(self._section.get("max_seq_len") or longest))
        self._ids = int(text.get("vocab_size", len(self._tokenizer)))
        self._vocabulary = Vocabulary(self._tokenizer)
        self.tokens = ModelTokens(self._tokenizer, self._longest)
        self.chat_format = chat_format_of(self._tokenizer, grammars=False)
        generation = folder / "generation_config.json"
        settings = json.loads(generation.read_text()) if generation.is_file() else {}
        self._eos = end_tokens(settings.get("eos_token_id"), self._tokenizer)

    def _info(self, folder: Path) -> ModelInfo:
        from llm_serve.models.footprint import estimate

        return ModelInfo(
            context_length=self._longest,
            footprint_bytes=max(estimate(self._config), held_bytes()),
            dtype=str(self._section.get("dtype", "auto")),
            device="cuda",
            engine_version=str(getattr(imported(self._config.id), "__version__", "unknown")),
            details=chat_details(self.chat_format),
        )

    def encode_chat(self, conversation: Conversation) -> Prompt:
        return chat_prompt(self._tokenizer, self.chat_format, conversation, self._config.id)

    def encode_text(self, text: str) -> Prompt:
        return text_prompt(self._tokenizer, text)

    async def generate(self, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[Delta, None]:
        room = room_for(prompt, sampling, self._config, context=self._longest, vocabulary=self._ids)
        logprobs: list[RawLogprob] = []
        decoder = OutputDecoder(self._vocabulary, sampling, logprobs, self._eos)
        result: Any = None
        finished = False
        try:
            params = parameters(
                imported(self._config.id), sampling, room=room, eos=self._eos, vocabulary=self._ids
            )
            try:
                result = self._llm.generate_async(
                    inputs=list(prompt.token_ids), sampling_params=params, streaming=True
                )
            except ValueError as error:  # its check of the request
                raise InvalidRequest(without_paths(str(error))) from error
            async for output in result:
                (sequence,) = output.outputs
                finished = bool(output.finished)
                tokens = sequence.token_ids
                if sampling.logprobs is not None:
                    new = slice(len(logprobs), len(tokens))
                    pairs = zip(tokens[new], sequence.logprobs[new], strict=True)
                    logprobs.extend(raw_logprob(t, entry, sampling.logprobs) for t, entry in pairs)
                ended = sequence.finish_reason == "stop" if finished else None
                delta = decoder.extend(tokens, finished=finished, ended=ended)
                if delta is not None:
                    yield delta
                if decoder.finish_reason is not None:
                    return
        except ServeError:
            raise
        except Exception as error:
            log.exception("TensorRT-LLM failed on a request")
            if _ends_the_engine(error):
                self._failed = True
                raise EngineDied(
                    "The engine died while it worked on this request; send it again."
                ) from error
            raise InternalError("The engine failed on this request.") from error
        finally:
            if result is not None and not finished:
                result.abort()

    async def check_health(self) -> None:
        if self._failed:
            raise EngineDied("The engine has failed.")

    async def close(self) -> None:
        if self._llm is not None:
            await asyncio.to_thread(self._llm.shutdown)


def imported(model_id: str) -> Any:
    """The package. Raises LoadFailed with what to install."""
    try:
        import tensorrt_llm
    except ImportError as error:
        raise LoadFailed(f"{model_id}: {REMEDY['tensorrt_llm']}") from error
    missing = missing_of(tensorrt_llm)
    if missing:
        found = getattr(tensorrt_llm, "__version__", "unknown")
        raise LoadFailed(
            f"{model_id}: TensorRT-LLM {found} has no {', '.join(missing[:3])}; install 1.2."
        )
    return tensorrt_llm


def missing_of(package: Any) -> list[str]:
    """What of `USED` the package does not have."""
    missing = [name for name in ("LLM", "SamplingParams") if not hasattr(package, name)]
    if not hasattr(getattr(package, "llmapi", None), "GuidedDecodingParams"):
        missing.append("llmapi.GuidedDecodingParams")
    if missing:
        return missing
    llm = package.LLM
    for name, owner in (
        ("LLM.__init__", llm.__init__),
        ("generate_async", llm.generate_async),
        ("SamplingParams", package.SamplingParams),
    ):
        known = inspect.signature(owner).parameters
        used = USED.get(name) or USED[f"LLM.{name}"]
        missing += [f"{name}({parameter})" for parameter in used if parameter not in known]
    return missing


def check_keywords(section: Mapping[str, Any], model_id: str) -> None:
    """Raises LoadFailed for a keyword that `LLM` does not have, or that is not the person's."""
    package = imported(model_id)
    parameters = inspect.signature(package.LLM.__init__).parameters.values()
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    known = {p.name for p in parameters if p.kind in named} - {"self"}
    arguments = getattr(package.llmapi, "TorchLlmArgs", None)
    known |= set(getattr(arguments, "model_fields", ()))
    engine_keys.check_keys(section, known, OURS, model_id=model_id, engine="TensorRT-LLM")


def check_section(model: ModelConfig) -> None:
    """Raises LoadFailed for an engine section that cannot work, or where nothing is installed."""
    assert isinstance(model.engine, TensorrtEngine)
    check_keywords(model.engine.arguments, model.id)


def held_bytes() -> int:
    """GPU memory in use on the devices of this process, weights and KV cache; 0 without one."""
    import torch

    if not torch.cuda.is_available():
        return 0
    devices = range(torch.cuda.device_count())
    pairs = [torch.cuda.mem_get_info(device) for device in devices]
    return int(sum(total - free for free, total in pairs))


def _reason(error: Exception) -> str:
    text = next(iter(str(error).splitlines()), type(error).__name__)
    if "out of memory" in str(error).lower():
        return (
            "not enough GPU memory. Lower kv_cache_config.free_gpu_memory_fraction, max_seq_len or "
            "max_batch_size, or unload another model."
        )
    return text[:400]


def _ends_the_engine(error: Exception) -> bool:
    """Whether it is the engine that failed and not the request, for which TensorRT-LLM raises
    RequestError (`tensorrt_llm.executor.utils`), nor a mistake of ours."""
    failed = isinstance(error, RuntimeError | OSError)
    return failed and type(error).__name__ != "RequestError"
