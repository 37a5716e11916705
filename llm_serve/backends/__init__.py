"""Engines behind one protocol. `create` imports the one that a model names, and no other: a replica
calls it, and `llm-serve check` calls `check_engine`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

from llm_serve.backends.base import Backend, Capabilities

if TYPE_CHECKING:
    from llm_serve.config import Kind, ModelConfig

_SAMPLING = Capabilities(
    n=True,
    seed=True,
    penalties=True,
    logit_bias=True,
    logprobs=True,
    top_logprobs=True,
    top_k=True,
    min_p=True,
    messages=True,
    tokenize=True,
)
CAPABILITIES: dict[str, Capabilities] = {
    "echo": Capabilities(
        n=True,
        seed=True,
        logprobs=True,
        tools=True,
        reasoning=True,
        responses=True,
        messages=True,
        embeddings=True,
        rerank=True,
        tokenize=True,
    ),
    "transformers": replace(
        _SAMPLING,
        tools=True,
        response_format=True,
        reasoning=True,
        responses=True,
        embeddings=True,
        rerank=True,
    ),
    "vllm": replace(
        _SAMPLING,
        echo=True,
        tools=True,
        response_format=True,
        images=True,
        reasoning=True,
        extensions=True,
        embeddings=True,
        rerank=True,
        responses=True,
        adapters=True,
    ),
    "tensorrt_llm": replace(
        _SAMPLING, tools=True, response_format=True, reasoning=True, responses=True
    ),
}
"""What each backend can do; known without importing it, so that requests are refused early."""
UNTRIED: dict[str, str] = {
    "tensorrt_llm": "written for TensorRT-LLM 1.2 and tested on a fake of it, not on hardware",
}
"""What a backend was not tried with; `/v1/models/{id}` shows it with each of its models."""


def capabilities_of(model: ModelConfig, kind: Kind | None = None) -> Capabilities:
    """What one model can do: what its backend can, and its kind does. `kind` is what a load has
    told, for a model whose configuration does not say."""
    can = CAPABILITIES[model.backend]
    match model.known_kind or kind:
        case "embedding" | "rerank" as known:
            return Capabilities(
                chat=False,
                completions=False,
                embeddings=can.embeddings and known == "embedding",
                rerank=can.rerank,
                extensions=can.extensions,
                tokenize=can.tokenize,
            )
        case "text":
            return replace(can, embeddings=False, rerank=False)
        case _:
            return can


def create(model: ModelConfig) -> Backend:
    """The backend of `model`, not loaded yet."""
    if model.backend == "echo":
        from llm_serve.backends.echo import EchoBackend

        return EchoBackend(model)
    if model.backend == "vllm":
        from llm_serve.backends.vllm.backend import VllmBackend

        return VllmBackend(model)
    if model.backend == "tensorrt_llm":
        from llm_serve.backends.tensorrt_llm import TensorrtBackend

        return TensorrtBackend(model)
    from llm_serve.backends.by_kind import BackendByKind

    return cast(Backend, BackendByKind(model))


def check_engine(model: ModelConfig) -> None:
    """Raises LoadFailed where the engine section cannot work, or the engine is not installed.
    Imports the engine, which takes seconds; transformers and echo were checked when read."""
    if model.backend == "vllm":
        from llm_serve.backends.vllm.backend import check_section

        check_section(model)
    if model.backend == "tensorrt_llm":
        from llm_serve.backends import tensorrt_llm

        tensorrt_llm.check_section(model)
