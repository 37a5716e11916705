"""The scores are those of sentence-transformers' CrossEncoder, to 1e-3; an embedding model ranks by
its cosines."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder

from llm_serve.backends import create
from llm_serve.backends.base import EmbeddingBackend
from llm_serve.config import ModelConfig
from llm_serve.errors import LoadFailed, PromptTooLong, UnsupportedParameter
from tests.support.embedding_models import SIZE, TEXTS, Pooling, base, ranker, reference, save

from .conftest import Load

QUERY = "vectors of short texts"


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("bert", {}),
        ("roberta", {"max_position_embeddings": 130, "pad_token_id": 1}),
        ("modernbert", {"global_attn_every_n_layers": 2, "local_attention": 16}),
    ],
)
@pytest.mark.parametrize("saved", [True, False])
async def test_the_scores_of_a_cross_encoder(
    kind: str, fields: dict[str, Any], saved: bool, tmp_path: Path, load: Load
) -> None:
    """As sentence-transformers saves it, and as transformers does."""
    folder = ranker(tmp_path / "plain", kind, **fields)
    model = CrossEncoder(str(folder), device="cpu")
    wanted = model.predict([(QUERY, text) for text in TEXTS], show_progress_bar=False)
    if saved:
        folder = tmp_path / "saved"
        model.save_pretrained(str(folder), create_model_card=False)
    ranked = await (await load(folder, "rerank", max_batch_tokens=128)).rank(QUERY, tuple(TEXTS))
    assert np.ptp(wanted) > 0.02, "all look alike"
    assert np.abs(np.array(ranked.scores) - wanted).max() < 1e-3
    assert ranked.tokens > 2 * len(TEXTS)


@pytest.mark.parametrize("key", ["own", "former", "older"])
async def test_what_makes_a_score_is_the_checkpoints(key: str, tmp_path: Path, load: Load) -> None:
    folder = ranker(tmp_path)
    name = "torch.nn.modules.linear.Identity"
    config = json.loads((folder / "config.json").read_text())
    if key == "own":
        model = CrossEncoder(str(folder), device="cpu", activation_fn=torch.nn.Identity())
        model.save_pretrained(str(folder), create_model_card=False)
    elif key == "former":
        config["sentence_transformers"] = {"activation_fn": name}
    else:
        config["sbert_ce_default_activation_function"] = name
    if key != "own":
        (folder / "config.json").write_text(json.dumps(config))
    model = CrossEncoder(str(folder), device="cpu")
    pairs = [(QUERY, text) for text in TEXTS]
    wanted = model.predict(pairs, show_progress_bar=False)
    sigmoid = model.predict(pairs, activation_fn=torch.nn.Sigmoid(), show_progress_bar=False)
    assert np.abs(wanted - sigmoid).max() > 0.01, "it makes a difference"
    ranked = await (await load(folder, "rerank")).rank(QUERY, tuple(TEXTS))
    assert np.abs(np.array(ranked.scores) - wanted).max() < 1e-3


async def test_an_embedding_model_ranks_by_cosines(tmp_path: Path, load: Load) -> None:
    folder = save(tmp_path / "whole", base(tmp_path / "base"), Pooling(SIZE, "mean"))
    values = reference(folder, [QUERY, *TEXTS], normalize_embeddings=True)
    ranked = await (await load(folder)).rank(QUERY, tuple(TEXTS))
    assert np.abs(np.array(ranked.scores) - values[1:] @ values[0]).max() < 1e-3
    with pytest.raises(PromptTooLong) as raised:
        await (await load(folder)).rank("vectors " * 127, ("a",))
    assert raised.value.param == "query"


async def test_the_files_say_that_it_ranks(tmp_path: Path) -> None:
    model = ModelConfig.model_validate(
        {"id": "r", "source": str(ranker(tmp_path)), "engine": {"dtype": "float32"}}
    )
    backend: EmbeddingBackend = create(model)  # type: ignore[assignment]
    info = await backend.load(lambda progress: None)
    try:
        assert (info.kind, info.details["score"]) == ("rerank", "sigmoid")
        assert len((await backend.rank(QUERY, ("a", "b"))).scores) == 2
        with pytest.raises(UnsupportedParameter, match="/v1/rerank"):
            await backend.embed(("a",), None)
        with pytest.raises(PromptTooLong) as raised:
            await backend.rank("vectors " * 60, ("a", "vectors " * 66))
        assert raised.value.param == "documents"
        assert raised.value.message.startswith("query and documents[1] together have 129 tokens")
    finally:
        await backend.close()


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda folder: ranker(folder, labels=3), "tells 3 classes apart"),
        (lambda folder: base(folder, num_labels=1), "incomplete"),
        (
            lambda folder: save(folder, base(folder / "base"), Pooling(SIZE, "mean")),
            "is made of Transformer, Pooling",
        ),
    ],
)
async def test_what_does_not_rank_is_refused(
    build: Callable[[Path], Path], said: str, tmp_path: Path, load: Load
) -> None:
    with pytest.raises(LoadFailed, match=said):
        await load(build(tmp_path), "rerank")
