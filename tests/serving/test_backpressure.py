"""Full queues, slow answers, large bodies: what is refused, and that nothing else is lost."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from llm_serve.errors import BodyTooLarge, InferenceTimeout, MissingKey, QueueFull, WrongKey
from tests.serving.conftest import STRICT_TIMEOUT_S
from tests.support.client import CHAT, Api, refused, user
from tests.support.streaming import live
from tests.support.waiting import until

pytestmark = pytest.mark.ray
PLACES = 3  # echo/one runs one and lets two wait


def test_past_its_places_a_model_answers_429_and_loses_none_it_admitted(idle: Api) -> None:
    """30 come for 3 places while one is answered: each gets its whole answer or a 429."""
    with ThreadPoolExecutor(30) as pool:
        texts = [f"client {number} says this" for number in range(30)]
        futures = [pool.submit(idle.chat, text, model="echo/one") for text in texts]
        answers = [future.result() for future in futures]
    admitted = [(t, a) for t, a in zip(texts, answers, strict=True) if a.status_code == 200]
    turned_away = [a for a in answers if a.status_code == 429]
    assert len(admitted) + len(turned_away) == 30
    assert len(admitted) >= PLACES
    assert turned_away, "nobody was turned away"
    for text, answer in admitted:
        assert answer.json()["choices"][0]["message"]["content"] == text
    for answer in turned_away:
        message = refused(answer, QueueFull)
        assert "echo/one" in message


def test_retry_after_is_honest(idle: Api) -> None:
    """With an answer every half second and two who wait, it says about one second."""
    for _ in range(6):
        assert idle.chat("a " * 10, model="echo/one").status_code == 200
    with ThreadPoolExecutor(PLACES) as pool:
        began = time.monotonic()
        waiting = [pool.submit(idle.chat, "a " * 10, model="echo/one") for _ in range(PLACES)]
        until(lambda: idle.health()["queue_depth"] == PLACES - 1, "the queue is full", seconds=5)
        answer = idle.chat("hi", model="echo/one")
        assert {future.result().status_code for future in waiting} == {200}
        took = time.monotonic() - began
    refused(answer, QueueFull)
    assert 1 <= int(answer.headers["retry-after"]) <= max(2, 2 * took + 1)


def test_a_full_model_does_not_fill_another(idle: Api) -> None:
    with (
        live(idle, "echo/one", "a " * 4000) as first,
        ThreadPoolExecutor(2) as pool,
        httpx.Client(base_url=idle.client.base_url, timeout=60) as other,
    ):
        first.read(1)
        waiting = [pool.submit(Api(other).chat, "hi", model="echo/one") for _ in range(2)]
        until(lambda: idle.health()["queue_depth"] == 2, "two wait", seconds=5)
        assert idle.chat("hi", model="echo/one").status_code == 429
        assert idle.chat_stream("hi", model="echo/fast").text() == "hi"
        shown = idle.get("/v1/models/echo/one").json()
        assert (shown["running"], shown["queued"]) == (1, 2)
        assert shown["limits"] == {"max_running": 1, "max_queued": 2}
        first.response.close()
        assert [future.result().status_code for future in waiting] == [200, 200]


def test_a_burst_on_an_idle_model_fills_every_place(idle: Api) -> None:
    """Ray Serve's own bound would refuse some while places are free."""
    with ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(lambda _: idle.chat("hi", model="echo/fast"), range(64)))
    assert {answer.status_code for answer in answers} == {200}


@pytest.mark.alone
def test_the_inference_timeout_is_a_json_504(strict: Api) -> None:
    began = time.monotonic()
    message = refused(strict.chat("a " * 40), InferenceTimeout)
    assert time.monotonic() - began < STRICT_TIMEOUT_S + 1
    assert "server.inference_timeout_s" in message
    assert strict.health()["running"] == 0
    assert strict.chat("hi").status_code == 200, "the engine, which runs one, was still at it"


@pytest.mark.alone
def test_the_inference_timeout_in_a_stream_is_an_error_frame(strict: Api) -> None:
    stream = strict.chat_stream("a " * 40)
    assert stream.text().startswith("a a ")
    assert stream.error is not None
    assert stream.error["code"] == "inference_timeout"
    assert not stream.done


def test_the_inference_timeout_counts_the_wait_in_the_queue(strict: Api) -> None:
    with live(strict, "echo/drip", "a " * 40) as first:
        first.read(1)
        refused(strict.chat("a " * 40, stream=True), InferenceTimeout)


@pytest.mark.parametrize("value", ["0.1", "0", "-1", "nan", "1e9"])
def test_no_header_of_a_client_changes_the_timeout(strict: Api, value: str) -> None:
    """Ray Serve knows `x-request-timeout-seconds` and answers it with a plain-text 408."""
    headers = {"x-request-timeout-seconds": value}
    body = {"messages": user("a b c"), "stream": True}
    assert strict.post(CHAT, body, headers=headers).content.endswith(b"[DONE]\n\n")


def test_a_body_past_the_limit_is_413(strict: Api) -> None:
    refused(strict.chat("x" * 70_000), BodyTooLarge)
    pieces = [json.dumps({"messages": user("x" * 70_000)})[:5000].encode()] + [b"x" * 9000] * 8
    headers = {"content-type": "application/json"}
    chunked = strict.request("POST", CHAT, content=iter(pieces), headers=headers)
    refused(chunked, BodyTooLarge)
    assert strict.chat("hi").status_code == 200, "the connection is still good"


def test_keys_are_wanted_under_a_route_prefix(strict: Api) -> None:
    with httpx.Client(base_url=strict.client.base_url, timeout=60) as client:
        stranger = Api(client)
        refused(stranger.chat("hi"), MissingKey)
        refused(stranger.get("/v1/models"), MissingKey)
        refused(stranger.get("/v1/models", headers={"authorization": "Bearer x"}), WrongKey)
        assert stranger.health()["status"] == "ok"
        assert stranger.get("/openapi.json").status_code == 200
