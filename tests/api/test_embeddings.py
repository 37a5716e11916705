"""`POST /v1/embeddings`: what it takes, what it answers, and which models it is for."""

from __future__ import annotations

import base64
import json
import math
from array import array
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from schemathesis import GenerationMode

from llm_serve.api.parsing.embeddings import (
    EMBEDDINGS,
    parse_embedding,
)
from llm_serve.api.parsing.parse import parse_chat
from llm_serve.api.schemas.openapi import document
from llm_serve.config import Config
from llm_serve.errors import (
    InvalidRequest,
    PromptTooLong,
    QueueFull,
    UnknownModel,
    UnsupportedParameter,
)
from llm_serve.generation.embeddings import numbers
from llm_serve.generation.execution import execute
from llm_serve.generation.request import INPUTS_A_PLACE
from tests.support.client import CHAT, TEXT, Api, refused, user
from tests.support.fuzz import Fuzz
from tests.support.inprocess import echo, serving
from tests.support.sdk import clients, lax
from tests.support.waiting import until

EMBEDDER, TALKER = "echo/e", "echo/a"
SIZE = 32
"""Numbers of an echo model's vector."""


@pytest.fixture(scope="module")
def both() -> Iterator[Api]:
    """An embedding model and a chat model; requests that name none get the first."""
    with serving(echo(EMBEDDER, kind="embedding", context_length=100), echo(TALKER)) as api:
        yield api


def embed(api: Api, text: Any = "hello there", **fields: Any) -> httpx.Response:
    return api.post(EMBEDDINGS, {"input": text, **fields})


def vectors(response: httpx.Response) -> list[list[float]]:
    """The numbers of each vector, in the order of the inputs."""
    assert response.status_code == 200, response.text
    data = response.json()["data"]
    assert [one["index"] for one in data] == list(range(len(data)))
    return [_numbers(one["embedding"]) for one in data]


def _numbers(value: list[float] | str) -> list[float]:
    if isinstance(value, str):
        return array("f", base64.b64decode(value)).tolist()
    return value


def test_a_text_a_list_token_ids_and_a_list_of_those(both: Api) -> None:
    assert len(vectors(embed(both))) == 1
    texts = ["one", "two words", "one"]
    first, second, third = vectors(embed(both, texts))
    assert first == third != second
    assert all(math.isclose(math.hypot(*v), 1, abs_tol=1e-6) for v in (first, second))
    assert len(vectors(embed(both, [1, 2, 3]))) == 1
    assert len(vectors(embed(both, [[1, 2, 3], [4]]))) == 2
    body = embed(both, texts, model=EMBEDDER, user="someone").json()
    assert body["model"] == EMBEDDER
    assert body["usage"] == {"prompt_tokens": 4, "total_tokens": 4}


def test_base64_has_the_same_numbers(both: Api) -> None:
    texts = ["one", "two"]
    by_number = vectors(embed(both, texts, encoding_format="float"))
    by_bytes = vectors(embed(both, texts, encoding_format="base64"))
    assert [array("f", vector).tolist() for vector in by_number] == by_bytes


def test_fewer_dimensions(both: Api) -> None:
    (short,) = vectors(embed(both, dimensions=5))
    assert len(short) == 5
    assert math.isclose(math.hypot(*short), 1, abs_tol=1e-6)
    assert len(vectors(embed(both, dimensions=SIZE))[0]) == SIZE
    refused(embed(both, dimensions=SIZE + 1), InvalidRequest, "dimensions")


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=9))
def test_no_number_changes_on_its_way(values: list[float]) -> None:
    assert array("f", json.loads(numbers(array("f", values)))) == array("f", values)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": [[]]}, "input[0]"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": ["a", 1]}, "input[1]"),
        ({"input": [1, "a"]}, "input[1]"),
        ({"input": [-1]}, "input[0]"),
        ({"input": [[1], [2.5]]}, "input[1][0]"),
        ({"input": {"text": "a"}}, "input"),
        ({"input": None}, "input"),
        ({"input": ["a"] * 2049}, "input"),
        ({"encoding_format": "int8"}, "encoding_format"),
        ({"dimensions": 0}, "dimensions"),
        ({"dimensions": True}, "dimensions"),
        ({"model": 5}, "model"),
        ({"temperature": 1}, "temperature"),
        ({"stream": True}, "stream"),
    ],
)
def test_what_is_wrong_is_named(both: Api, fields: dict[str, Any], param: str) -> None:
    refused(both.post(EMBEDDINGS, {"input": "a", **fields}), InvalidRequest, param)


def test_an_input_too_long_is_refused_and_not_cut(both: Api) -> None:
    refused(embed(both, ["a", "word " * 101]), PromptTooLong, "input")
    assert embed(both, ["a", "word " * 100]).status_code == 200


def test_a_chat_model_gives_no_embeddings(both: Api) -> None:
    message = refused(embed(both, model=TALKER), UnsupportedParameter, "model")
    assert "kind: embedding" in message
    assert f"name another model ({EMBEDDER}), or" in message
    refused(embed(both, model="nope"), UnknownModel, "model")


@pytest.mark.parametrize(
    ("path", "fields"), [(CHAT, {"messages": user("hi")}), (TEXT, {"prompt": "hi"})]
)
def test_an_embedding_model_does_not_talk(both: Api, path: str, fields: dict[str, Any]) -> None:
    message = refused(both.post(path, fields), UnsupportedParameter, "model")
    assert "/v1/embeddings" in message
    assert TALKER in message
    assert both.post(path, {**fields, "model": TALKER}).status_code == 200


def test_its_tokens_may_be_seen(both: Api) -> None:
    assert both.post("/tokenize", {"prompt": "one two"}).json()["count"] == 2


def test_each_model_shows_what_it_can_do(both: Api) -> None:
    listed = {m["id"]: m["capabilities"] for m in both.get("/v1/models").json()["data"]}
    can = {model: {name for name, is_so in c.items() if is_so} for model, c in listed.items()}
    assert can[EMBEDDER] & {"chat", "completions", "embeddings", "n", "tools"} == {"embeddings"}
    assert can[TALKER] >= {"chat", "completions"}
    assert "embeddings" not in can[TALKER]


def test_a_model_of_a_kind_that_nobody_knows_yet_is_let_through() -> None:
    """Its files are not here: the replica looks, and refuses."""
    models = [
        {"id": "t"},
        {"id": "e", "kind": "embedding"},
        {"id": "trt", "backend": "tensorrt_llm"},
    ]
    config = Config.model_validate({"models": models})
    assert parse_embedding({"input": "a"}, config).model == "t"
    assert parse_chat({"messages": user("a")}, config).model == "t"
    with pytest.raises(UnsupportedParameter, match=r"name another model \(t, e\), or"):
        parse_embedding({"input": "a", "model": "trt"}, config)
    with pytest.raises(UnsupportedParameter, match=r"name another model \(t, trt\)\."):
        parse_chat({"messages": user("a"), "model": "e"}, config)


class _Talks:
    """A backend without embeddings."""


async def test_the_replica_refuses_what_the_ingress_could_not_know() -> None:
    request = parse_embedding({"input": "a"}, Config.model_validate({"models": [{"id": "t"}]}))
    backend: Any = _Talks()
    with pytest.raises(UnsupportedParameter, match="kind: embedding") as caught:
        await anext(execute(backend, request, 1))
    assert caught.value.param == "model"


def test_many_inputs_take_few_places() -> None:
    config = Config.model_validate({"models": [echo(EMBEDDER, kind="embedding")]})
    for count, places in ((1, 1), (INPUTS_A_PLACE, 1), (INPUTS_A_PLACE + 1, 2), (2048, 128)):
        assert parse_embedding({"input": ["a"] * count}, config).sequences == places
    narrow = echo(EMBEDDER, kind="embedding", max_running=1, max_queued=3)
    config = Config.model_validate({"models": [narrow]})
    assert parse_embedding({"input": ["a"] * 64}, config).sequences == 4
    with pytest.raises(InvalidRequest, match="which is 64") as caught:
        parse_embedding({"input": ["a"] * 65}, config)
    assert caught.value.param == "input"


def test_a_full_queue_is_429() -> None:
    slow = echo(EMBEDDER, kind="embedding", max_running=1, max_queued=1, first_token_s=0.5)
    with serving(slow) as api, ThreadPoolExecutor(1) as pool:
        wide = pool.submit(embed, api, ["a"] * 32)
        until(lambda: api.gateway.inflight[EMBEDDER] == 2, "it has its places", seconds=5)
        refused(embed(api), QueueFull)
        assert len(vectors(wide.result())) == 32
        assert len(vectors(embed(api))) == 1


def test_the_openai_sdk_reads_both_formats(both: Api) -> None:
    """By itself it asks for base64, which its own type of the answer does not have."""
    http = httpx.Client(transport=both.client._transport)
    for sdk in clients("http://test/v1", http_client=http):
        texts = ["one", "two words"]
        by_bytes = lax(sdk).embeddings.create(model=EMBEDDER, input=texts)
        by_number = sdk.embeddings.create(model=EMBEDDER, input=texts, encoding_format="float")
        assert by_bytes.usage.prompt_tokens == by_number.usage.total_tokens == 3
        assert [len(one.embedding) for one in by_bytes.data] == [SIZE, SIZE]
        for one, other in zip(by_bytes.data, by_number.data, strict=True):
            assert one.embedding == pytest.approx(other.embedding, abs=1e-8)
        short = lax(sdk).embeddings.create(model=EMBEDDER, input=[[1, 2]], dimensions=3)
        assert len(short.data[0].embedding) == 3


BODY = "EmbeddingRequest"
FUZZ = Fuzz(document(), (BODY,), {"model": {"enum": [EMBEDDER, TALKER, None]}})


def test_what_the_document_allows(both: Api) -> None:
    seen = []

    def judge(body: Any, response: httpx.Response) -> None:
        seen.append(response.status_code)
        if response.status_code != 200:
            error = response.json()["error"]
            known = {"unsupported_parameter", "model_not_found", "context_length_exceeded"}
            assert error["code"] in known or error["param"] == "dimensions", (body, error)

    FUZZ.run(both, "POST", EMBEDDINGS, GenerationMode.POSITIVE, 100, judge)
    assert seen.count(200) > 10


def test_what_the_document_forbids(both: Api) -> None:
    components = FUZZ.document["components"]
    schema = {**components["schemas"][BODY], "components": components}
    allowed = Draft202012Validator(schema)
    refused_bodies = 0

    def judge(body: Any, response: httpx.Response) -> None:
        nonlocal refused_bodies
        if not allowed.is_valid(body):
            assert response.status_code == 400, body
            refused_bodies += 1

    FUZZ.run(both, "POST", EMBEDDINGS, GenerationMode.NEGATIVE, 150, judge)
    assert refused_bodies > 60
