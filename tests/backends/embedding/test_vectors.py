"""The vectors are those of sentence-transformers, to 1e-3, whatever the checkpoint is made of."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llm_serve.backends.transformers.embedding.backend import TransformersEmbedder
from tests.support.embedding_models import (
    SIZE,
    TEXTS,
    Dense,
    LayerNorm,
    Normalize,
    Pooling,
    base,
    reference,
    save,
)

from .conftest import Load, vectors

CLOSE = 1e-3
MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return base(tmp_path_factory.mktemp("bert"))


async def compare(load: Load, folder: Path, texts: list[str] = TEXTS, **engine: Any) -> Any:
    """The vectors of `texts`, which are asked for by several clients at once."""
    wanted = reference(folder, texts)
    backend = await load(folder, max_batch_tokens=128, **engine)
    parts = [texts[:1], texts[1:4], texts[4:]]
    got = np.concatenate(await asyncio.gather(*(vectors(backend, part) for part in parts)))
    assert got.shape == wanted.shape
    assert np.abs(wanted).max() > 0.1, "nothing would be too far from next to nothing"
    assert np.abs(got - wanted).max() < CLOSE
    return got


@pytest.mark.parametrize("mode", MODES)
async def test_each_pooling(mode: str, bert: Path, tmp_path: Path, load: Load) -> None:
    await compare(load, save(tmp_path, bert, Pooling(SIZE, mode)))


async def test_projections_and_unit_length(bert: Path, tmp_path: Path, load: Load) -> None:
    modules = (
        Pooling(SIZE, ("mean", "max")),
        Dense(2 * SIZE, SIZE),
        LayerNorm(SIZE),
        Dense(SIZE, 16, bias=False, activation_function=None, use_residual=True),
        Normalize(),
    )
    got = await compare(load, save(tmp_path, bert, *modules))
    assert got.shape == (len(TEXTS), 16)
    assert np.allclose(np.linalg.norm(got, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("include", [True, False])
@pytest.mark.parametrize("mode", ["mean", "cls", "lasttoken"])
async def test_the_prompt_of_the_checkpoint(
    include: bool, mode: str, bert: Path, tmp_path: Path, load: Load
) -> None:
    prompts = {"prompts": {"query": "the vectors of "}, "default_prompt_name": "query"}
    folder = save(tmp_path, bert, Pooling(SIZE, mode, include_prompt=include), **prompts)
    got = await compare(load, folder)
    (tmp_path / "config_sentence_transformers.json").unlink()
    assert np.abs(got - reference(folder, TEXTS)).max() > 10 * CLOSE, "the prompt counts"


@pytest.mark.parametrize(
    ("kind", "mode", "fields"),
    [
        ("roberta", "mean", {"max_position_embeddings": 130, "pad_token_id": 1}),
        ("distilbert", "mean", {"dim": SIZE, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}),
        ("mpnet", "mean", {"max_position_embeddings": 130}),
        ("t5", "mean", {}),
        ("llama", "lasttoken", {}),
        ("qwen3", "lasttoken", {"head_dim": 8, "num_key_value_heads": 2}),
        ("modernbert", "cls", {"global_attn_every_n_layers": 2, "local_attention": 16}),
    ],
)
async def test_each_architecture(
    kind: str, mode: str, fields: dict[str, Any], tmp_path: Path, load: Load
) -> None:
    source = base(tmp_path / "base", kind, **fields)
    folder = save(tmp_path / "whole", source, Pooling(SIZE, mode), Normalize())
    await compare(load, folder)


async def test_a_plain_encoder_is_averaged(bert: Path, load: Load) -> None:
    await compare(load, bert)


async def test_what_former_versions_wrote(bert: Path, tmp_path: Path, load: Load) -> None:
    """The names of sentence-transformers before 6: all-MiniLM-L6-v2 has them, for one."""
    folder = save(tmp_path, bert, Pooling(SIZE, "cls"), Normalize())
    wanted = reference(folder, TEXTS)
    parts = ("Transformer", "Pooling", "Normalize")
    modules = [
        {"idx": i, "name": str(i), "path": f"{i}_{kind}" if i else "", "type": _former(kind)}
        for i, kind in enumerate(parts)
    ]
    pooling = {
        "word_embedding_dimension": SIZE,
        "pooling_mode_cls_token": True,
        "pooling_mode_mean_tokens": False,
    }
    write(folder / "modules.json", modules)
    write(folder / "1_Pooling" / "config.json", pooling)
    write(folder / "sentence_bert_config.json", {"max_seq_length": 100, "do_lower_case": False})
    (folder / "2_Normalize" / "config.json").unlink()
    backend = await load(folder)
    assert np.abs(await vectors(backend, TEXTS) - wanted).max() < CLOSE


def _former(kind: str) -> str:
    return f"sentence_transformers.models.{kind}"


def write(file: Path, value: Any) -> None:
    file.write_text(json.dumps(value))


@pytest.mark.parametrize("dimensions", [1, 7, SIZE])
@pytest.mark.parametrize("unit", [True, False])
async def test_fewer_dimensions(
    dimensions: int, unit: bool, bert: Path, tmp_path: Path, load: Load
) -> None:
    """Cut as sentence-transformers cuts, and of unit length again where the vectors were."""
    folder = save(tmp_path, bert, Pooling(SIZE, "mean"), *([Normalize()] if unit else []))
    wanted = reference(folder, TEXTS, truncate_dim=dimensions, normalize_embeddings=unit)
    got = await vectors(await load(folder), TEXTS, dimensions)
    assert np.abs(got - wanted).max() < CLOSE


async def test_in_bfloat16(bert: Path, tmp_path: Path, load: Load) -> None:
    """Eight bits of mantissa: of vectors of unit length, the cosine is what can be told."""
    folder = save(tmp_path, bert, Pooling(SIZE, "mean"), Normalize())
    got = await vectors(await load(folder, dtype="bfloat16"), TEXTS)
    cosines = (got * reference(folder, TEXTS)).sum(axis=1)
    assert cosines.min() > 0.999
    assert np.abs(got - reference(folder, TEXTS)).max() > 1e-6, "it was float32 after all"


@pytest.mark.model
async def test_the_real_small_model_by_its_last_token(
    folder: Path, tmp_path: Path, load: Load
) -> None:
    """As Qwen3-Embedding is made: a causal model, its last token, unit length."""
    whole = save(tmp_path, folder, Pooling(576, "lasttoken"), Normalize())
    got = await compare(load, whole, [text for text in TEXTS if text.strip()])
    backend = await load(whole, dtype="bfloat16")
    near = (await vectors(backend, TEXTS) * await _float32(load, whole)).sum(axis=1)
    assert near.min() > 0.99
    assert got.shape[1] == 576


async def _float32(load: Callable[..., Any], folder: Path) -> Any:
    backend: TransformersEmbedder = await load(folder)
    return await vectors(backend, TEXTS)
