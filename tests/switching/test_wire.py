"""What a client of a cold model meets: the guide's 202, a held answer, or an honest 503."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from openai import OpenAI

from llm_serve.errors import NotReady
from tests.support.client import CHAT, Api, parse_stream, refused, user
from tests.support.raw import sent
from tests.support.residents import Residents
from tests.support.streaming import live
from tests.support.switching import (
    ask,
    held,
    make_cold,
    make_ready,
    retried,
    said,
    shown,
    wait_for,
)
from tests.support.waiting import until
from tests.switching.conftest import A, B, C, Serve, slow

pytestmark = pytest.mark.ray
GUIDE = {"object", "status", "model", "current_model", "retry_after_seconds", "eta_seconds"}


def test_202_as_in_the_guide_and_the_answer_on_the_retry(cold: Api, residents: Residents) -> None:
    make_ready(cold, A)
    response = ask(cold, B, "a b c")
    assert response.status_code == 202, response.text
    told = response.json()
    assert set(told) >= GUIDE
    assert (told["object"], told["status"]) == ("model.load", "spinning_up")
    assert (told["model"], told["current_model"]) == (B, A)
    assert response.headers["retry-after"] == str(told["retry_after_seconds"])
    assert "preference-applied" not in response.headers
    answer, _ = retried(cold, B, "a b c")
    assert said(answer) == "a b c"
    assert shown(cold, A)["loaded"] is False


def test_the_load_goes_on_although_nobody_is_connected(cold: Api) -> None:
    assert ask(cold, A).status_code == 202
    wait_for(cold, A, "ready")


@pytest.mark.parametrize("wish", ["respond-async", "wait=30", "wait=30, respond-async"])
def test_prefer_is_honoured_and_echoed(cold: Api, wish: str) -> None:
    """RFC 7240: the first preference that the server knows is the one it applies."""
    applied = wish.split(",")[0]
    response = ask(cold, A, "a b", wish)
    assert response.headers["preference-applied"] == applied
    assert response.status_code == (202 if applied == "respond-async" else 200)


def test_prefer_has_the_last_word_over_the_sdk(cold: Api) -> None:
    headers = {"x-stainless-lang": "python", "prefer": "respond-async"}
    response = cold.post(CHAT, {"model": A, "messages": user("hi")}, headers=headers)
    assert response.status_code == 202


@pytest.mark.parametrize("stream", [True, False])
def test_the_openai_sdk_gets_its_answer_without_any_option(cold: Api, stream: bool) -> None:
    """`auto`: a 202 would be an empty answer to it."""
    with OpenAI(base_url=f"{cold.client.base_url}/v1", api_key="x") as client:
        messages = [{"role": "user", "content": "one two"}]
        if not stream:
            answer = client.chat.completions.create(model=B, messages=messages)
            assert answer.choices[0].message.content == "one two"
            return
        chunks = client.chat.completions.create(model=B, messages=messages, stream=True)
        assert "".join(c.choices[0].delta.content or "" for c in chunks) == "one two"


@pytest.mark.alone
def test_past_the_hold_it_is_a_503_that_says_where_the_load_stands(serve: Serve) -> None:
    api = serve("hold", slow(A, load_s=8))
    began = time.monotonic()
    response = ask(api, A, "hi", "wait=1")
    assert 1 <= time.monotonic() - began < 2.5
    refused(response, NotReady)
    assert response.headers["preference-applied"] == "wait=1"
    loading = response.json()["loading"]
    assert set(loading) >= GUIDE
    assert (loading["object"], loading["model"]) == ("model.load", A)
    assert response.headers["retry-after"] == str(loading["retry_after_seconds"])
    # A stream is decided before it opens: the same, and not an error frame.
    refused(ask(api, A, "hi", "wait=0", stream=True), NotReady)
    # Then one that waits long enough to be told how it goes.
    with live(api, A, "a b c", {"prefer": "wait=60"}) as stream:
        assert stream.response.status_code == 200
        assert stream.response.headers["preference-applied"] == "wait=60"
        stream.read()
    assert (stream.text, stream.done) == ("a b c", True)
    assert stream.comments
    assert all(c.startswith(f"loading {A}") for c in stream.comments)
    assert any("%" in comment for comment in stream.comments), stream.comments


def test_the_modes_accept_and_wait(serve: Serve) -> None:
    sdk = {"x-stainless-lang": "python"}
    body = {"model": A, "messages": user("a b")}
    accept = serve("accept", slow(A), cold_start={"mode": "accept"})
    assert accept.post(CHAT, body, headers=sdk).status_code == 202
    assert said(held(accept, A, "a b")) == "a b"

    wait = serve("wait", slow(A), slow(B), cold_start={"mode": "wait", "max_hold_s": 30})
    assert said(wait.post(CHAT, body)) == "a b"
    assert ask(wait, B, prefer="respond-async").status_code == 202
    capped = ask(wait, A, prefer="wait=999")
    assert capped.headers["preference-applied"] == "wait=30", "what was really applied"


def test_eta_is_unknown_until_a_load_was_measured(serve: Serve) -> None:
    # An id that no other start on this machine has: measurements outlive the server.
    fresh = f"echo/{time.time_ns()}"
    api = serve("eta", slow(fresh), slow(B))
    assert ask(api, fresh).json()["eta_seconds"] is None
    wait_for(api, fresh, "ready")
    make_cold(api, fresh)
    told = ask(api, fresh).json()
    assert 0.5 <= told["eta_seconds"] < 20
    assert told["retry_after_seconds"] >= 1


def test_concurrent_cold_requests_load_once(cold: Api, residents: Residents) -> None:
    body = {"model": C, "messages": user("hi"), "stream": False}
    with sent(cold, body), sent(cold, body), sent(cold, body):
        wait_for(cold, C, "loading", "ready")
        texts = [f"client {n}" for n in range(8)]
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda text: held(cold, C, text), texts))
    assert [said(answer) for answer in answers] == texts
    assert residents.loads(C) == 1


def test_the_position_in_the_line_is_told(cold: Api) -> None:
    """The one that loads is at 0, the next at 1; both in the answer and on the model's page."""
    make_ready(cold, A)
    with live(cold, A, "word " * 100) as busy:
        busy.read(1)
        first, second = ask(cold, B).json(), ask(cold, C).json()
        assert (first["position"], second["position"]) == (1, 2)
        listed = {m["id"]: m for m in cold.get("/v1/models").json()["data"]}
        assert (listed[B]["status"], listed[B]["position"]) == ("queued", 1)
        assert (listed[C]["status"], listed[C]["position"]) == ("queued", 2)
        health = cold.health()
        assert (health["status"], health["switch_target_model"]) == ("switching", B)
        busy.read()
        assert busy.done
    until(lambda: shown(cold, C)["loaded"], "the last in line is up")


def test_a_stream_of_an_unknown_field_is_refused_before_any_load(cold: Api) -> None:
    assert cold.chat("hi", model=B, temperature=9).status_code == 400
    assert shown(cold, B)["status"] == "unloaded"
    assert parse_stream(held(cold, B, "a b", stream=True)).text() == "a b"
