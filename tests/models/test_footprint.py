"""What a model will take, before it takes it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from llm_serve import models
from llm_serve.config import ModelConfig
from llm_serve.models import footprint
from llm_serve.models.footprint import ENGINE_BYTES, UNKNOWN_BYTES, estimate

SHAPE = {"num_attention_heads": 4, "hidden_size": 64, "num_hidden_layers": 2}
TOKENS = 1024
CACHE = TOKENS * 2 * 2 * 64  # numbers: keys and values, layers, heads times their size


@pytest.fixture
def folder(tmp_path: Path, model_folder: Callable[..., Path]) -> Path:
    folder = model_folder(tmp_path / "model", size=1_000_000)
    (folder / "config.json").write_text(json.dumps({**SHAPE, "dtype": "bfloat16"}))
    return folder


def model(folder: Path, **engine: Any) -> ModelConfig:
    engine = {"kv_cache_tokens": TOKENS, "device": "cpu", **engine}
    return ModelConfig.model_validate({"id": "m", "source": str(folder), "engine": engine})


def numbers(size: int) -> tuple[int, int]:
    """Bytes of the weights and the cache together, give or take the header."""
    least = ENGINE_BYTES + size * (500_000 + CACHE)
    return least, least + 1000


@pytest.mark.parametrize(
    ("fast", "size"), [({"avx512_bf16": True}, 2), ({"bf16": True}, 2), ({}, 4)]
)
def test_where_the_cpu_has_no_bfloat16_both_double(
    folder: Path, monkeypatch: pytest.MonkeyPatch, fast: dict[str, bool], size: int
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: fast)
    low, high = numbers(size)
    assert low <= estimate(model(folder), here=True) <= high
    low, high = numbers(2)
    assert low <= estimate(model(folder)) <= high, "another machine is not asked"
    assert low <= estimate(model(folder, dtype="float16"), here=True) <= high


@pytest.mark.parametrize("key", ["dtype", "torch_dtype"])
def test_float32_in_the_files(folder: Path, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    (folder / "config.json").write_text(json.dumps({**SHAPE, key: "float32"}))
    stored = 1_000_000 + CACHE * 4
    assert stored <= estimate(model(folder)) - ENGINE_BYTES <= stored + 1000
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"bf16": True})
    half = stored // 2
    assert half <= estimate(model(folder), here=True) - ENGINE_BYTES <= half + 1000


def test_nothing_is_fetched_hashed_mended_or_removed(
    tiny: Callable[..., ModelConfig], index: Any, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert estimate(tiny()) == UNKNOWN_BYTES
    assert index.served == 0
    folder = models.resolve(tiny())
    assert estimate(tiny()) < UNKNOWN_BYTES
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    for forbidden in ("get_or_build", "is_intact", "sha256_of", "_xxh3_of"):
        monkeypatch.setattr(models.wheel.cache, forbidden, None)
    before = sorted(cache.rglob("*"))
    assert estimate(tiny()) < UNKNOWN_BYTES, "damage is found by the load"
    assert sorted(cache.rglob("*")) == before


@pytest.mark.parametrize("config", ["{}", '{"num_attention_heads": null}', '{"text_config": 1}'])
def test_odd_files_are_left_to_the_load(folder: Path, config: str) -> None:
    (folder / "config.json").write_text(config)
    assert ENGINE_BYTES < estimate(model(folder)) <= UNKNOWN_BYTES


def test_an_adapter_is_no_model(folder: Path) -> None:
    (folder / "config.json").rename(folder / "adapter_config.json")
    assert estimate(model(folder)) == UNKNOWN_BYTES


def test_what_is_declared_is_not_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(footprint, "find", None)
    assert estimate(ModelConfig(id="m", footprint_gb=3)) == 3 * 2**30
