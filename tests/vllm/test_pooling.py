"""A model of the embedding kind in vLLM: its own routes, and the vectors of the other backend."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from llm_serve.backends.transformers.embedding.backend import TransformersEmbedder
from llm_serve.config import ModelConfig
from llm_serve.errors import InvalidRequest, UnsupportedParameter
from tests.support.client import CHAT, Api, refused, user
from tests.support.inprocess import serving

POOLS = "small/pools"
TEXTS = ["A cat sat on the mat.", "The kitten sits on a rug.", "Interest rates rose."]


@pytest.fixture(scope="module")
def pools(folder: Path) -> Iterator[Api]:
    engine = {"dtype": "float32", "enforce_eager": True, "max_model_len": 512}
    engine |= {"kv_cache_memory_bytes": 128 * 2**20, "max_num_seqs": 8}
    model = {"id": POOLS, "backend": "vllm", "source": str(folder), "kind": "embedding"}
    with serving({**model, "engine": engine}, start_s=240) as api:
        yield api


def test_its_vectors_are_those_of_the_transformers_backend(pools: Api, folder: Path) -> None:
    answer = pools.post("/v1/embeddings", {"input": TEXTS}).json()
    assert answer["model"] == POOLS
    config = ModelConfig.model_validate(
        {"id": "e", "source": str(folder), "kind": "embedding", "engine": {"dtype": "float32"}}
    )

    async def ours() -> list[list[float]]:
        backend = TransformersEmbedder(config)
        await backend.load(lambda progress: None)
        try:
            return [list(vector) for vector in (await backend.embed(tuple(TEXTS), None)).vectors]
        finally:
            await backend.close()

    for one, other in zip(answer["data"], asyncio.run(ours()), strict=True):
        length = math.hypot(*other)
        assert one["embedding"] == pytest.approx([v / length for v in other], abs=1e-3)


def test_it_ranks(pools: Api) -> None:
    asked = {"query": TEXTS[0], "documents": TEXTS, "top_n": 2}
    results = pools.post("/v1/rerank", asked).json()["results"]
    assert [one["index"] for one in results] == [0, 1]
    refused(pools.post("/v1/rerank", {**asked, "stream": True}), UnsupportedParameter, "stream")
    assert pools.post("/v1/rerank", {"query": "a"}).status_code == 400


def test_it_says_what_it_can_and_refuses_the_rest(pools: Api) -> None:
    can = pools.get(f"/v1/models/{POOLS}").json()["capabilities"]
    assert (can["chat"], can["embeddings"], can["rerank"]) == (False, True, True)
    message = refused(pools.post(CHAT, {"messages": user("a")}), UnsupportedParameter, "model")
    assert "/v1/embeddings" in message
    wrong = pools.post("/v1/embeddings", {"input": "a", "dimensions": 7})
    assert "dimensions" in refused(wrong, InvalidRequest)
