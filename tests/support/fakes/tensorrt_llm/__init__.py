"""A stand-in for TensorRT-LLM's LLM API, which needs an NVIDIA GPU.

Its classes have the parameters and members of `manifest.json`, a record of the real ones, and no
others. The answers are a real model's: its engine is that of our transformers backend.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, create_model

from llm_serve.backends.transformers import checkpoint, kv_memory
from llm_serve.backends.transformers.engine import Engine, Submitted
from llm_serve.config import TransformersEngine
from llm_serve.sampling import Sampling
from tensorrt_llm import llmapi

__version__ = "1.2.0+fake"
MANIFEST: dict[str, Any] = json.loads(
    (Path(__file__).parent / "manifest.json").read_text(encoding="utf-8")
)
FAIL_REQUEST = "fail this request"
FAIL_ENGINE = "fail the engine"
"""Texts in a prompt that make the fake raise midway, as the real one does for either reason."""

SamplingParams = make_dataclass(
    "SamplingParams",
    [(name, Any, field(default=None)) for name in MANIFEST["SamplingParams"]],
    kw_only=True,
    slots=True,
)
GuidedDecodingParams = make_dataclass(
    "GuidedDecodingParams",
    [(name, Any, field(default=None)) for name in MANIFEST["GuidedDecodingParams"]],
    kw_only=True,
    slots=True,
)
TorchLlmArgs: type[BaseModel] = create_model(
    "TorchLlmArgs",
    __config__=ConfigDict(extra="forbid", arbitrary_types_allowed=True),
    **dict.fromkeys(MANIFEST["TorchLlmArgs"], (Any, None)),
)
llmapi.GuidedDecodingParams = GuidedDecodingParams  # type: ignore[attr-defined]
llmapi.TorchLlmArgs = TorchLlmArgs


class RequestError(RuntimeError):
    """One request failed; the engine lives."""


@dataclass(slots=True)
class Logprob:
    logprob: float
    rank: int | None = None


@dataclass(slots=True)
class CompletionOutput:
    index: int
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    cumulative_logprob: float | None = None
    logprobs: list[dict[int, Logprob]] = field(default_factory=list)
    prompt_logprobs: list[dict[int, Logprob]] = field(default_factory=list)
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    _last: int = 0

    @property
    def token_ids_diff(self) -> list[int]:
        return self.token_ids[self._last :]

    @property
    def logprobs_diff(self) -> list[dict[int, Logprob]]:
        return self.logprobs[self._last :]

    @property
    def text_diff(self) -> str:
        return ""

    @property
    def length(self) -> int:
        return len(self.token_ids)


class LLM:
    """Explicit keywords first, as in the real signature; the rest is for `TorchLlmArgs`."""

    def __init__(
        self,
        model: str,
        tokenizer: Any = None,
        tokenizer_mode: str = "auto",
        skip_tokenizer_init: bool = False,
        trust_remote_code: bool = False,
        tensor_parallel_size: int = 1,
        dtype: str = "auto",
        revision: str | None = None,
        tokenizer_revision: str | None = None,
        **kwargs: Any,
    ) -> None:
        self.args = TorchLlmArgs(model=model, dtype=dtype, **kwargs)
        fraction = (kwargs.get("kv_cache_config") or {}).get("free_gpu_memory_fraction", 0.5)
        if not 0 < fraction <= 1:
            raise RuntimeError(f"CUDA out of memory: tried to allocate {fraction} of the device.")
        engine = TransformersEngine.model_validate(
            {"dtype": dtype, "device": "cpu", "kv_cache_tokens": 16384}
        )
        checkpoint.use_threads(None)
        self._checkpoint = checkpoint.load(Path(model), "the fake", engine)
        self._engine = Engine(
            self._checkpoint.model,
            kv_memory.examine(self._checkpoint.model),
            eos_token_ids=self._checkpoint.eos_token_ids,
            kv_cache_tokens=engine.kv_cache_tokens,
            max_batch_tokens=engine.max_batch_tokens,
            max_running=kwargs.get("max_batch_size") or 32,
        )
        self.submitted: list[Any] = []
        """The sampling parameters of every request, for tests."""
        self.aborted = 0

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("the adapter must not block")

    def generate_async(
        self,
        inputs: list[int],
        sampling_params: Any = None,
        lora_request: Any = None,
        streaming: bool = False,
        kv_cache_retention_config: Any = None,
        disaggregated_params: Any = None,
    ) -> RequestOutput:
        assert streaming, "the adapter asks for a stream"
        if sampling_params.detokenize is not False:
            raise ValueError("detokenize was asked for")
        self.submitted.append(sampling_params)
        return RequestOutput(self, inputs, sampling_params)

    def shutdown(self) -> None:
        self._engine.stop()


class RequestOutput:
    """An asynchronous iterator over itself, one step of the engine each."""

    def __init__(self, llm: LLM, inputs: list[int], params: Any) -> None:
        self._llm = llm
        self._params = params
        self.prompt_token_ids = inputs
        self.request_id = len(llm.submitted)
        self.outputs = [CompletionOutput(0)]
        self.finished = False
        self._aborted = False
        self._updates: asyncio.Queue[Any] = asyncio.Queue()
        self._text = llm._checkpoint.tokenizer.decode(inputs)
        self._guided = self._forced_tokens()
        self._request: Submitted | None = None
        if self._guided is None:
            self._request = llm._engine.submit(
                inputs, _sampling(params), params.max_tokens, self._told
            )

    def _told(self, finished: bool, error: Exception | None) -> None:
        self._updates.put_nowait((finished, error))

    def aborted(self) -> bool:
        return self._aborted

    def abort(self) -> None:
        self._aborted = True
        self._llm.aborted += 1
        if self._request is not None:
            self._llm._engine.release(self._request)

    def __aiter__(self) -> RequestOutput:
        return self

    async def __anext__(self) -> RequestOutput:
        if self.finished:
            raise StopAsyncIteration
        output = self.outputs[0]
        output._last = len(output.token_ids)
        if output.token_ids and FAIL_REQUEST in self._text:
            raise RequestError("the request could not be run")
        if output.token_ids and FAIL_ENGINE in self._text:
            raise RuntimeError("the worker has died")
        if self._guided is not None:
            output.token_ids.append(self._guided.pop(0))
            self.finished = not self._guided
            output.finish_reason = "stop" if self.finished else None
            return self
        assert self._request is not None
        self.finished, error = await self._updates.get()
        if error is not None:
            raise error
        output.token_ids.extend(self._request.generated[output.length :])
        if self._params.logprobs:
            for raw in self._request.logprobs[len(output.logprobs) : output.length]:
                sampled, ids, values = raw
                entry = {
                    i: Logprob(v, r + 1) for r, (i, v) in enumerate(zip(ids, values, strict=True))
                }
                token = output.token_ids[len(output.logprobs)]
                entry.setdefault(token, Logprob(sampled, None))
                output.logprobs.append(entry)
        if self.finished:
            ends = self._llm._checkpoint.eos_token_ids
            stopped = bool(output.token_ids) and output.token_ids[-1] in ends
            output.finish_reason = "stop" if stopped and not self._params.ignore_eos else "length"
        return self

    def _forced_tokens(self) -> list[int] | None:
        """What a guided answer is, of the least JSON that the schema allows."""
        guide = self._params.guided_decoding
        if guide is None:
            return None
        if guide.regex is not None:
            return list(self._llm._checkpoint.tokenizer.encode(guide.regex))
        value = {} if guide.json is None else _least(json.loads(guide.json))
        return list(self._llm._checkpoint.tokenizer.encode(json.dumps(value)))


def _least(schema: dict[str, Any]) -> Any:
    if "anyOf" in schema:
        return _least(schema["anyOf"][0])
    if "const" in schema:
        return schema["const"]
    match schema.get("type"):
        case "object":
            wanted = schema.get("required", ())
            return {name: _least(schema["properties"][name]) for name in wanted}
        case "array":
            return [_least(schema["items"])] * schema.get("minItems", 0)
        case "integer" | "number":
            return schema.get("minimum", 0)
        case "boolean":
            return False
        case _:
            return schema.get("enum", ["x"])[0]


def _sampling(params: Any) -> Sampling:
    bias: tuple[tuple[int, float], ...] = ()
    if params.embedding_bias is not None:
        assert params.embedding_bias.dtype == torch.float32
        wanted = params.embedding_bias.nonzero().flatten().tolist()
        bias = tuple((token, float(params.embedding_bias[token])) for token in wanted)
    greedy = params.top_k == 1 and params.temperature is None
    return Sampling(
        temperature=0.0 if greedy else params.temperature,
        top_p=1.0 if params.top_p is None else params.top_p,
        top_k=0 if greedy else params.top_k or 0,
        min_p=params.min_p or 0.0,
        presence_penalty=params.presence_penalty or 0.0,
        frequency_penalty=params.frequency_penalty or 0.0,
        logit_bias=bias,
        seed=params.seed,
        logprobs=params.logprobs,
        ignore_eos=bool(params.ignore_eos),
    )
