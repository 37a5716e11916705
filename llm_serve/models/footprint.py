"""Says how much memory a model will take: what is declared, else an estimate.

A load measures it, and corrects the estimate for the next one.
"""

from __future__ import annotations

import json
from typing import Any

from llm_serve.config import (
    VLLM_CPU_CACHE_BYTES,
    EchoEngine,
    ModelConfig,
    PassThroughEngine,
    TransformersEngine,
)
from llm_serve.models import find, weights_bytes
from llm_serve.models.kind import kind_of

Generating = TransformersEngine | PassThroughEngine
ENGINE_BYTES = 600 * 2**20
"""Python, torch and transformers in a fresh process, measured as resident on a CPU machine."""
UNKNOWN_BYTES = 4 * 2**30
"""For a model that is not fetched yet, whose size nobody knows; its first load corrects it."""
_LONGEST_TRIED = 8192
"""Tokens of an input that counts as usual, of a model that takes more."""


def estimate(model: ModelConfig, *, here: bool = False) -> int:
    """Bytes of one replica: weights, KV cache, the engine itself. Reads cached files, a few KiB of
    each, and nothing else.

    `here`: it is this machine that runs it, so a dtype that depends on the device is looked up, for
    which the engine is imported; else that of the checkpoint is taken.
    """
    if model.footprint_gb is not None:
        return int(model.footprint_gb * 2**30)
    if isinstance(model.engine, EchoEngine):
        return 100 * 2**20
    folder = find(model)
    if folder is None:
        return UNKNOWN_BYTES
    try:
        config = json.loads((folder / "config.json").read_text())
        width = _width(config, model.engine, here=here)
        weights = weights_bytes(folder) * width // _stored(config)
        if isinstance(model.engine, TransformersEngine) and (
            (model.kind or kind_of(folder)) != "text"
        ):
            return ENGINE_BYTES + weights + _batch(config, model.engine, width)
        return ENGINE_BYTES + weights + _kv_cache(config, model.engine, width)
    except (ImportError, OSError, ValueError, TypeError, AttributeError):
        return UNKNOWN_BYTES  # the load will say what is wrong


def _stored(config: dict[str, Any]) -> int:
    """Bytes of one number in the files; older ones have another name for the dtype."""
    text = config.get("text_config", config)
    dtype = config.get("dtype") or config.get("torch_dtype") or text.get("torch_dtype")
    return _bytes_of(str(dtype or "bfloat16"))


def _bytes_of(dtype: str) -> int:
    return 4 if dtype.removeprefix("torch.") in ("float32", "float") else 2


def _width(config: dict[str, Any], engine: Generating, *, here: bool) -> int:
    """Bytes of one number in memory."""
    if isinstance(engine, PassThroughEngine):
        wanted = engine.arguments.get("dtype")
    elif here:
        from llm_serve.models.precision import name_of

        wanted = name_of(engine)
    else:
        wanted = engine.dtype
    return _stored(config) if wanted in (None, "auto") else _bytes_of(str(wanted))


def _kv_cache(config: dict[str, Any], engine: Generating, width: int) -> int:
    """Keys and values of every layer and KV head, for as many tokens as the cache holds."""
    if isinstance(engine, PassThroughEngine):
        return int(engine.arguments.get("kv_cache_memory_bytes") or VLLM_CPU_CACHE_BYTES)
    text = config.get("text_config", config)
    heads = int(text.get("num_attention_heads", 0))
    kv_heads = int(text.get("num_key_value_heads") or heads)
    size = int(text.get("head_dim") or (int(text.get("hidden_size", 0)) // max(heads, 1)))
    per_token = 2 * int(text.get("num_hidden_layers", 0)) * kv_heads * size
    return engine.kv_cache_tokens * per_token * width


def _batch(config: dict[str, Any], engine: TransformersEngine, width: int) -> int:
    """What one pass of a model that does not generate makes of its tokens beside the weights: some
    eight vectors of a layer's width and two of its feed-forward part's, of as many tokens as a
    batch or one input has."""
    size = int(config.get("hidden_size") or config.get("dim") or config.get("d_model") or 0)
    inner = int(config.get("intermediate_size") or 4 * size)
    longest = min(int(config.get("max_position_embeddings") or 0), _LONGEST_TRIED)
    return max(engine.max_batch_tokens, longest) * (8 * size + 2 * inner) * width
