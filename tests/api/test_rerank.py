"""`POST /v1/rerank`: what it takes, what it answers, and which models it is for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator
from schemathesis import GenerationMode

from llm_serve.api.parsing.embeddings import RERANK, parse_rerank
from llm_serve.api.schemas.openapi import document
from llm_serve.config import Config
from llm_serve.errors import InvalidRequest, UnsupportedParameter
from llm_serve.generation.execution import execute
from tests.support.client import CHAT, Api, refused, user
from tests.support.fuzz import Fuzz
from tests.support.inprocess import echo, serving

RANKS, EMBEDS = "echo/r", "echo/e"


@pytest.fixture(scope="module")
def ranker() -> Iterator[Api]:
    with serving(echo(RANKS, kind="rerank"), echo(EMBEDS, kind="embedding")) as api:
        yield api


DOCUMENTS = ["nothing", "a quick fox", {"text": "the quick brown fox"}, "a fox"]


def test_documents_come_the_best_first(ranker: Api) -> None:
    asked = {"query": "the quick brown fox", "documents": DOCUMENTS}
    body = ranker.post(RERANK, asked).json()
    assert [one["index"] for one in body["results"]] == [2, 1, 3, 0]
    assert [one["relevance_score"] for one in body["results"]] == [1, 0.5, 0.25, 0]
    assert body["results"][0]["document"] == {"text": "the quick brown fox"}
    assert body["usage"] == {"prompt_tokens": 14, "total_tokens": 14}
    two = ranker.post(RERANK, {**asked, "top_n": 2, "return_documents": False, "model": EMBEDS})
    assert two.json()["model"] == EMBEDS
    assert two.json()["results"] == [
        {"index": 2, "relevance_score": 1.0},
        {"index": 1, "relevance_score": 0.5},
    ]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"query": ""}, "query"),
        ({"query": ["a"]}, "query"),
        ({"query": None}, "query"),
        ({"documents": []}, "documents"),
        ({"documents": "a"}, "documents"),
        ({"documents": ["a", 1]}, "documents[1]"),
        ({"documents": [{"text": ""}]}, "documents[0].text"),
        ({"documents": [{"title": "a"}]}, "documents[0].text"),
        ({"documents": ["a"] * 2049}, "documents"),
        ({"top_n": 0}, "top_n"),
        ({"max_chunks_per_doc": 1}, "max_chunks_per_doc"),
    ],
)
def test_what_is_wrong_with_a_ranking_is_named(
    ranker: Api, fields: dict[str, Any], param: str
) -> None:
    refused(
        ranker.post(RERANK, {"query": "a", "documents": ["b"], **fields}), InvalidRequest, param
    )


def test_a_model_that_ranks_does_nothing_else(ranker: Api) -> None:
    can = {m["id"]: m["capabilities"] for m in ranker.get("/v1/models").json()["data"]}
    assert (can[RANKS]["rerank"], can[RANKS]["embeddings"]) == (True, False)
    for path, fields in (("/v1/embeddings", {"input": "a"}), (CHAT, {"messages": user("a")})):
        assert "/v1/rerank" in refused(ranker.post(path, fields), UnsupportedParameter, "model")
    config = Config.model_validate({"models": [echo(RANKS, kind="rerank")]})
    asked = {"query": "a", "documents": ["b"] * 2048}
    assert parse_rerank(asked, config).sequences == 128


async def test_a_model_that_talks_does_not_rank(api: Api) -> None:
    asked: dict[str, Any] = {"query": "a", "documents": ["b"]}
    message = refused(api.post(RERANK, asked), UnsupportedParameter, "model")
    assert "/v1/chat/completions" in message
    request = parse_rerank(asked, Config.model_validate({"models": [{"id": "t"}]}))
    backend: Any = object()
    with pytest.raises(UnsupportedParameter, match="does not rank") as caught:
        await anext(execute(backend, request, 1))
    assert caught.value.param == "model"


def test_rankings_that_the_document_allows_and_forbids(ranker: Api) -> None:
    fuzz = Fuzz(document(), ("RerankRequest",), {"model": {"enum": [RANKS, EMBEDS, None]}})
    seen = []

    def judge(body: Any, response: httpx.Response) -> None:
        seen.append(response.status_code)
        known = {"model_not_found", "context_length_exceeded"}
        assert response.status_code == 200 or response.json()["error"]["code"] in known, body

    fuzz.run(ranker, "POST", RERANK, GenerationMode.POSITIVE, 60, judge)
    assert seen.count(200) > 10
    components = fuzz.document["components"]
    schema = {**components["schemas"]["RerankRequest"], "components": components}
    allowed = Draft202012Validator(schema)

    def judge_wrong(body: Any, response: httpx.Response) -> None:
        assert allowed.is_valid(body) or response.status_code == 400, body

    fuzz.run(ranker, "POST", RERANK, GenerationMode.NEGATIVE, 80, judge_wrong)
