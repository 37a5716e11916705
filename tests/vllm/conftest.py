"""One vLLM engine in this process, behind the app: the real small model, with a LoRA adapter."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llm_serve.config import default_config
from tests.support.client import Api

pytest.importorskip("vllm", reason="vLLM is not installed: make install-vllm")

from tests.support.inprocess import serving

MODEL = "smol"
ADAPTER = "smol-louder"
ENGINE: dict[str, Any] = {
    "max_model_len": 1024,
    "kv_cache_memory_bytes": 256 * 2**20,
    "max_num_seqs": 32,
    "enforce_eager": True,
    "dtype": "float32",
    "max_lora_rank": 8,
}


def pytest_itemcollected(item: pytest.Item) -> None:
    """All of this folder is `make engines`: `make test` does not look into it."""
    item.add_marker(pytest.mark.vllm)


@pytest.fixture(scope="session")
def folder() -> Path:
    from llm_serve.models import resolve

    return resolve(default_config().default_model)


@pytest.fixture(scope="session")
def adapter(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter that changes what the model says, in peft's format."""
    import torch
    from safetensors.torch import save_file

    config = json.loads((folder / "config.json").read_text())
    width, rank = config["hidden_size"], 4
    torch.manual_seed(5)
    tensors = {}
    for layer in range(config["num_hidden_layers"]):
        name = f"base_model.model.model.layers.{layer}.self_attn.o_proj"
        tensors[f"{name}.lora_A.weight"] = torch.randn(rank, width) * 0.1
        tensors[f"{name}.lora_B.weight"] = torch.randn(width, rank) * 0.1
    path = tmp_path_factory.mktemp("adapter")
    save_file(tensors, path / "adapter_model.safetensors")
    (path / "adapter_config.json").write_text(
        json.dumps(
            {
                "peft_type": "LORA",
                "task_type": "CAUSAL_LM",
                "base_model_name_or_path": str(folder),
                "r": rank,
                "lora_alpha": 8,
                "lora_dropout": 0.0,
                "bias": "none",
                "target_modules": ["o_proj"],
            }
        )
    )
    return path


@pytest.fixture(scope="package")
def api(folder: Path, adapter: Path) -> Iterator[Api]:
    model = {
        "id": MODEL,
        "backend": "vllm",
        "source": str(folder),
        "engine": ENGINE,
        "defaults": {"max_tokens": 3},  # generated requests often set no limit
        "adapters": [{"id": ADAPTER, "source": str(adapter)}],
    }
    with serving(model, start_s=300) as api:
        assert [m.error for m in api.gateway.models.values()] == [None]
        yield api
