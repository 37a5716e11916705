"""Whether a model generates or embeds, as its files say it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm_serve.config import Config
from llm_serve.models.footprint import ENGINE_BYTES, estimate
from llm_serve.models.kind import kind_of, with_kinds


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({"architectures": ["LlamaForCausalLM"]}, "text"),
        ({"architectures": ["GPT2LMHeadModel"]}, "text"),
        ({"architectures": ["BertModel"]}, "embedding"),
        ({"architectures": ["Qwen3Model"]}, "embedding"),
        ({"architectures": ["T5EncoderModel"]}, "embedding"),
        ({"architectures": ["XLMRobertaForMaskedLM"]}, "embedding"),
        ({"architectures": ["BertForSequenceClassification"], "id2label": {"0": "a"}}, "rerank"),
        ({"architectures": ["BertForSequenceClassification"]}, "text"),
        ({"architectures": ["LlavaForConditionalGeneration"]}, "text"),
        ({"architectures": None}, "text"),
        ({}, "text"),
    ],
)
def test_by_the_architecture(tmp_path: Path, config: dict[str, Any], kind: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert kind_of(tmp_path) == kind
    (tmp_path / "modules.json").write_text("[]")
    assert kind_of(tmp_path) == "embedding", "as sentence-transformers saves a causal model too"
    (tmp_path / "config_sentence_transformers.json").write_text('{"model_type": "CrossEncoder"}')
    assert kind_of(tmp_path) == "rerank"


@pytest.mark.parametrize("text", ["", "[]", "{", '{"architectures": "BertModel"}'])
def test_odd_files_are_left_to_the_load(tmp_path: Path, text: str) -> None:
    assert kind_of(tmp_path) == "text"
    (tmp_path / "config.json").write_text(text)
    assert kind_of(tmp_path) == "text"


def test_the_ingress_learns_what_is_here(tmp_path: Path, model_folder: Callable[..., Path]) -> None:
    folder = model_folder(tmp_path / "model", size=1000)
    (folder / "config.json").write_text('{"architectures": ["BertModel"]}')
    config = Config.model_validate(
        {
            "models": [
                {"id": "here", "source": str(folder), "max_running": 7},
                {"id": "told", "source": str(folder), "kind": "text"},
                {"id": "gone", "source": str(tmp_path / "nowhere")},
                {"id": "echo", "backend": "echo"},
                {"id": "vllm", "backend": "vllm", "source": str(folder)},
            ],
            "server": {"max_body_mb": 3},
        }
    )
    found = with_kinds(config)
    assert [model.known_kind for model in found.models] == ["embedding", "text", None, "text", None]
    assert found.models[0].max_running == 7
    assert found.server == config.server


def test_an_embedding_model_has_no_kv_cache(
    tmp_path: Path, model_folder: Callable[..., Path]
) -> None:
    folder = model_folder(tmp_path / "model", size=1_000_000)
    shape = {"hidden_size": 64, "num_hidden_layers": 12, "num_attention_heads": 4}
    more = {"intermediate_size": 128, "max_position_embeddings": 256, "dtype": "float32"}

    def size(architecture: str, **fields: Any) -> int:
        text = json.dumps({**shape, **more, "architectures": [architecture]})
        (folder / "config.json").write_text(text)
        (model,) = Config.model_validate(
            {"models": [{"id": "m", "source": str(folder), **fields}]}
        ).models
        return estimate(model) - ENGINE_BYTES

    batch = 512 * (8 * 64 + 2 * 128) * 4
    assert 1_000_000 + batch <= size("BertModel") <= 1_001_000 + batch
    cache = 16384 * 2 * 12 * 64 * 4
    assert 1_000_000 + cache <= size("LlamaForCausalLM") <= 1_001_000 + cache
    assert size("LlamaForCausalLM", kind="embedding") == size("BertModel")
    assert size("BertModel", engine={"max_batch_tokens": 1024}) >= 1_000_000 + 2 * batch
