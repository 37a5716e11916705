"""Whose turn it is: work ends whole, nobody starves, requests are collated, no load in vain."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.client import Api, user
from tests.support.cluster import Cluster
from tests.support.raw import sent
from tests.support.residents import Residents
from tests.support.streaming import live
from tests.support.switching import (
    endless,
    held,
    make_cold,
    make_ready,
    said,
    shown,
    wait_for,
)
from tests.support.waiting import until
from tests.switching.conftest import MAX_WAIT_S, A, B, C, Serve, slow

pytestmark = pytest.mark.ray
SWITCH_S = 20.0
"""More than a drain and a load take on a busy machine of two cores."""


def test_a_stream_ends_whole_before_the_other_model_loads(api: Api, residents: Residents) -> None:
    """Rule 2, and rule 1 all the way: B waits for longer than its patience."""
    text = "word " * 300
    make_ready(api, A)
    with live(api, A, text) as stream, ThreadPoolExecutor(1) as pool:
        stream.read(1)
        other = pool.submit(held, api, B, "and me")
        wait_for(api, A, "draining", seconds=MAX_WAIT_S + 5)
        assert set(residents.now().values()) == {A}
        assert not other.done()
        stream.read()
        ended = time.monotonic()
        assert said(other.result()) == "and me"
        assert time.monotonic() - ended < SWITCH_S
    assert stream.done
    assert stream.error is None
    assert stream.text == text


def test_endless_traffic_to_one_model_does_not_starve_another(
    api: Api, residents: Residents
) -> None:
    """Rule 5: three clients never leave A idle; B is up within max_wait_s, a drain and a load."""
    make_ready(api, A)
    request = lambda: said(held(api, A, "word " * 20))  # noqa: E731
    with endless(request) as one, endless(request) as two, endless(request):
        until(lambda: one and two, "the traffic flows")
        asked = time.monotonic()
        assert said(held(api, B, "me too")) == "me too"
        assert time.monotonic() - asked < MAX_WAIT_S + SWITCH_S
        until(lambda: one[-1] > asked + 1, "A has its turn again", seconds=MAX_WAIT_S + SWITCH_S)


def test_200_interleaved_requests_over_three_models(api: Api, residents: Residents) -> None:
    """A B C A B C ...: each is answered once with its own text, in few loads and not in 200."""
    texts = [f"client {number}" for number in range(200)]
    make_cold(api, A, B, C)
    with ThreadPoolExecutor(66) as pool:
        futures = [
            pool.submit(held, api, (A, B, C)[number % 3], text, max_tokens=8)
            for number, text in enumerate(texts)
        ]
        answers = [future.result() for future in futures]
    assert [said(answer) for answer in answers] == texts
    assert len({answer.json()["id"] for answer in answers}) == 200
    loads = sum(residents.loads(model) for model in (A, B, C))
    # 66 come at a time, 22 for each model: whoever waits for a load is served by it.
    assert 3 <= loads <= 200 / 22 + 3, residents.started


@pytest.mark.alone
def test_who_leaves_the_line_is_not_waited_for(cold: Api, residents: Residents) -> None:
    """A is busy, B's only client leaves, and C, which asked later, is the next."""
    make_ready(cold, A)
    with live(cold, A, "word " * 150) as busy, ThreadPoolExecutor(1) as pool:
        busy.read(1)
        with sent(cold, {"model": B, "messages": user("hi")}, "wait=60"):
            wait_for(cold, B, "queued")
            other = pool.submit(held, cold, C, "me")
            wait_for(cold, C, "queued")
            assert (shown(cold, B)["position"], shown(cold, C)["position"]) == (1, 2)
        wait_for(cold, B, "unloaded", seconds=2)
        assert shown(cold, C)["position"] == 1
        busy.read()
        assert busy.done
        assert said(other.result()) == "me"
    assert residents.loads(B) == 0


def test_a_load_is_cancelled_when_its_last_waiter_leaves_and_another_waits(
    serve: Serve, switching: Cluster
) -> None:
    """Rule 7: C does not wait for the end of a long load that nobody wants any more."""
    api = serve("cancel", slow(B, load_s=60), slow(C))
    body = {"model": B, "messages": user("hi")}
    with Residents(switching.child.pid, "cancel") as watch, ThreadPoolExecutor(1) as pool:
        with sent(api, body, "wait=60"), sent(api, {**body, "stream": True}, "wait=60"):
            wait_for(api, B, "loading")
            other = pool.submit(held, api, C, "me")
            wait_for(api, C, "queued")
            until(lambda: shown(api, B).get("load_progress"), "the load of B is under way")
            assert shown(api, B)["status"] == "loading"
        left = time.monotonic()
        assert said(other.result()) == "me"
        assert time.monotonic() - left < 30, "C waited for the whole load of B"
    assert watch.most() == 1, watch.overlaps()
    assert shown(api, B)["status"] == "unloaded"


def test_a_load_that_nobody_waits_for_is_kept_if_nobody_needs_its_place(cold: Api) -> None:
    with sent(cold, {"model": B, "messages": user("word " * 500)}, "wait=60"):
        wait_for(cold, B, "loading")
    wait_for(cold, B, "ready")
    assert shown(cold, B)["running"] == 0, "the client had left"
