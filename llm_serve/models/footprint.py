"""How much memory a model will take: declared, else estimated; corrected once it was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llm_serve.config import (
    VLLM_CPU_CACHE_BYTES,
    EchoEngine,
    ModelConfig,
    PassedOn,
    TransformersEngine,
)
from llm_serve.errors import LoadFailed
from llm_serve.models import is_cached, resolve, weights_bytes

Generating = TransformersEngine | PassedOn
ENGINE_BYTES = 600 * 2**20
"""Python, torch and transformers in a fresh process, measured as resident on a CPU machine."""
UNKNOWN_BYTES = 4 * 2**30
"""For a model that is not fetched yet, whose size nobody knows; its first load corrects it."""


def estimate(model: ModelConfig) -> int:
    """Bytes of one replica: weights, KV cache, the engine itself. Reads only cached files."""
    if model.footprint_gb is not None:
        return int(model.footprint_gb * 2**30)
    if isinstance(model.engine, EchoEngine):
        return 100 * 2**20
    if not is_cached(model):
        return UNKNOWN_BYTES
    try:
        folder = resolve(model)
    except LoadFailed:
        return UNKNOWN_BYTES
    config = json.loads((folder / "config.json").read_text())
    return ENGINE_BYTES + _weights(folder, config, model.engine) + _kv_cache(config, model.engine)


def _width(config: dict[str, Any], engine: Generating) -> int:
    """Bytes of one number; where the device decides the dtype, that of the checkpoint."""
    wanted = (
        engine.dtype if isinstance(engine, TransformersEngine) else engine.arguments.get("dtype")
    )
    dtype = str(config.get("dtype", "bfloat16")) if wanted in (None, "auto") else str(wanted)
    return 4 if dtype in ("float32", "float", "torch.float32") else 2


def _weights(folder: Path, config: dict[str, Any], engine: Generating) -> int:
    stored = 4 if str(config.get("dtype", "")).endswith("float32") else 2
    return weights_bytes(folder) * _width(config, engine) // stored


def _kv_cache(config: dict[str, Any], engine: Generating) -> int:
    """Keys and values of every layer and KV head, for as many tokens as the cache holds."""
    if isinstance(engine, PassedOn):
        return int(engine.arguments.get("kv_cache_memory_bytes") or VLLM_CPU_CACHE_BYTES)
    text = config.get("text_config", config)
    heads = int(text.get("num_attention_heads", 0))
    kv_heads = int(text.get("num_key_value_heads") or heads)
    size = int(text.get("head_dim") or (int(text.get("hidden_size", 0)) // max(heads, 1)))
    per_token = 2 * int(text.get("num_hidden_layers", 0)) * kv_heads * size
    return engine.kv_cache_tokens * per_token * _width(config, engine)
