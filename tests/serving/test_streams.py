"""Streams through HAProxy: at once, one by one, to the end, and many at the same time."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from llm_serve.errors import PromptTooLong
from tests.support.client import Api, Stream, check, parse_stream, refused, user
from tests.support.cluster import Cluster
from tests.support.streaming import live

pytestmark = pytest.mark.ray
CLIENTS = 32


@pytest.mark.alone
def test_tokens_come_one_by_one_while_they_are_made(idle: Api) -> None:
    """40 tokens, 50 ms apart: the first is here long before the last is made."""
    began = time.monotonic()
    with live(idle, "echo/slow", "word " * 40) as stream:
        stream.read()
    assert stream.done
    assert stream.text == "word " * 40
    took = stream.arrivals[-1] - began
    assert took > 39 * 0.05
    assert stream.arrivals[0] - began < took / 2
    distinct = {round(arrival, 2) for arrival in stream.arrivals}
    assert len(distinct) > 20, "they came in lumps"


@pytest.mark.parametrize("kind", ["chat_stream", "complete_stream"])
def test_a_stream_ends_with_done(server: Api, kind: str) -> None:
    stream: Stream = getattr(server, kind)("a b c", model="echo/fast")
    assert stream.done
    assert (stream.text(), stream.finish()) == ("a b c", "stop")
    assert stream.response.content.endswith(b"data: [DONE]\n\n")


def test_usage_and_n_in_one_stream(server: Api) -> None:
    stream = server.chat_stream(
        "a b c", model="echo/slow", n=3, stream_options={"include_usage": True}
    )
    assert [stream.text(index) for index in range(3)] == ["a b c"] * 3
    assert stream.chunks[-1]["choices"] == []
    assert stream.chunks[-1]["usage"]["completion_tokens"] == 9


@pytest.mark.parametrize(
    "text", ["😀 🏳️‍🌈 👨‍👩‍👧‍👦 ok", "你好， 世界 再见", "data: [DONE]\n\n \u2028 \x00 \x1f"]
)
def test_characters_are_never_cut(server: Api, text: str) -> None:
    assert server.chat_stream(text, model="echo/fast").text() == text
    whole = server.chat(text, model="echo/fast").json()
    assert whole["choices"][0]["message"]["content"] == text


def test_32_clients_at_once_each_get_their_own_answer(idle: Api) -> None:
    async def ask(client: httpx.AsyncClient, number: int) -> None:
        text = f"client {number} says " + f"w{number} " * 20
        fields = {"model": "echo/fast", "messages": user(text), "stream": number % 2 == 0}
        response = check(await client.post("/v1/chat/completions", json=fields))
        assert response.status_code == 200
        if fields["stream"]:
            assert parse_stream(response).text() == text
        else:
            assert response.json()["choices"][0]["message"]["content"] == text

    async def all_of_them() -> None:
        limits = httpx.Limits(max_connections=CLIENTS)
        async with httpx.AsyncClient(
            base_url=idle.client.base_url, timeout=60, limits=limits
        ) as client:
            for _ in range(3):
                await asyncio.gather(*(ask(client, number) for number in range(CLIENTS)))

    asyncio.run(all_of_them())


def test_a_long_stream_arrives_whole(server: Api) -> None:
    text = " ".join(str(number) for number in range(8000))
    assert server.chat_stream(text, model="echo/fast").text() == text


def test_a_large_prompt_and_a_large_answer_pass(server: Api) -> None:
    """Ray's messages by value end at 4 MiB; bodies may have 8 and answers any size."""
    text = "x" * 6_000_000
    answer = server.chat(text, model="echo/fast", n=2).json()
    assert [c["message"]["content"] == text for c in answer["choices"]] == [True, True]
    stream = server.chat_stream(text, model="echo/fast")
    assert stream.text() == text
    refused(server.chat("x " * 200_000, model="echo/fast"), PromptTooLong, "messages")


def test_requests_share_connections(cluster: Cluster) -> None:
    """Ten requests of every kind on one connection, the refused ones among them."""
    with httpx.Client(base_url=cluster.url, limits=httpx.Limits(max_connections=1)) as client:
        api = Api(client)
        for _ in range(2):
            assert api.chat("a b", model="echo/fast").status_code == 200
            assert api.chat_stream("a b", model="echo/fast").done
            assert api.chat(temperature=9).status_code == 400
            assert api.get("/nope").status_code == 404
            assert api.request("HEAD", "/healthz").status_code == 200
        pool = client._transport._pool
        assert len(pool.connections) == 1
        assert "Request Count: 10" in repr(pool.connections[0])


def test_slow_and_fast_models_do_not_wait_for_each_other(idle: Api) -> None:
    with ThreadPoolExecutor(1) as pool, live(idle, "echo/slow", "a " * 60) as stream:
        stream.read(1)
        answers = [pool.submit(idle.chat, "hi", model="echo/fast").result() for _ in range(5)]
        assert {answer.status_code for answer in answers} == {200}
        stream.read(1)
        assert stream.arrivals[1] - stream.arrivals[0] < 2
