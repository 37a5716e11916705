"""A client that leaves frees its place within a second, wherever its request was."""

from __future__ import annotations

import time

import pytest

from tests.support.client import Api, user
from tests.support.raw import sent
from tests.support.streaming import live
from tests.support.waiting import until

pytestmark = [pytest.mark.ray, pytest.mark.alone]
ONE = "echo/one"
LONG = "word " * 4000  # at 50 ms a token, longer than any test
FREED_WITHIN_S = 1.0


def _load(api: Api) -> tuple[int, int]:
    health = api.health()
    return health["running"], health["queue_depth"]


def _wait_for_load(api: Api, running: int, queued: int) -> None:
    until(lambda: _load(api) == (running, queued), f"{running} run and {queued} wait", seconds=5)


def _assert_freed(api: Api, left: float) -> None:
    """No one runs or waits, and the next request of the model is answered, all within the time."""
    until(lambda: _load(api) == (0, 0), "the place is free", seconds=FREED_WITHIN_S)
    assert api.chat("hi", model=ONE).status_code == 200
    took = time.monotonic() - left
    assert took < FREED_WITHIN_S + 0.3, "the status said free, the engine was not"


def test_leaving_a_stream(idle: Api) -> None:
    with live(idle, ONE, LONG) as stream:
        stream.read(2)
        assert _load(idle) == (1, 0)
    _assert_freed(idle, time.monotonic())


def test_leaving_while_a_whole_answer_is_awaited(idle: Api) -> None:
    with sent(idle, {"model": ONE, "messages": user(LONG)}):
        _wait_for_load(idle, 1, 0)
    _assert_freed(idle, time.monotonic())


def test_leaving_before_the_first_byte_of_a_stream(idle: Api) -> None:
    with sent(idle, {"model": ONE, "messages": user(LONG), "stream": True}):
        _wait_for_load(idle, 1, 0)
    _assert_freed(idle, time.monotonic())


@pytest.mark.parametrize("stream", [True, False])
def test_leaving_the_queue(idle: Api, stream: bool) -> None:
    """Those before it in the queue and behind it are not touched."""
    body = {"model": ONE, "messages": user(LONG), "stream": stream}
    with live(idle, ONE, LONG) as first:
        first.read(1)
        with sent(idle, body), sent(idle, body):
            _wait_for_load(idle, 1, 2)
        _wait_for_load(idle, 1, 0)
        first.read(2)
        assert first.error is None
    _assert_freed(idle, time.monotonic())


def test_the_next_in_the_queue_runs_when_the_one_before_it_leaves(idle: Api) -> None:
    with live(idle, ONE, LONG) as first:
        first.read(1)
        with sent(idle, {"model": ONE, "messages": user("hi")}) as waiting:
            _wait_for_load(idle, 1, 1)
            first.response.close()
            left = time.monotonic()
            assert b"200 OK" in waiting.recv(1000)
            assert time.monotonic() - left < FREED_WITHIN_S


def test_leaving_with_a_large_prompt(idle: Api) -> None:
    """Which goes another way to the engine: by reference."""
    with live(idle, ONE, LONG + "x" * 400_000) as stream:
        stream.read(2)
    _assert_freed(idle, time.monotonic())


def test_leaving_frees_every_one_of_n(idle: Api) -> None:
    with live(idle, ONE, LONG, n=8) as stream:
        stream.read(8)
    _assert_freed(idle, time.monotonic())


def test_leaving_again_and_again_leaks_nothing(idle: Api) -> None:
    for _ in range(20):
        with live(idle, "echo/slow", LONG) as stream:
            stream.read(1)
    until(lambda: _load(idle) == (0, 0), "all places are free", seconds=FREED_WITHIN_S)
    assert idle.chat("hi", model="echo/slow").status_code == 200


def test_no_header_of_a_client_keeps_its_request_alive_after_it_left(idle: Api) -> None:
    """Ray Serve knows `x-request-disconnect-disabled: ?1`; whoever pays for the engine does not."""
    with live(idle, ONE, LONG, _headers={"x-request-disconnect-disabled": "?1"}) as stream:
        stream.read(1)
    _assert_freed(idle, time.monotonic())
