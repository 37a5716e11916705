"""Models that cannot be loaded: their clients get the reason, and nobody else notices (rule 6)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from llm_serve.errors import LoadFailed
from tests.support.client import Api, refused
from tests.support.cluster import Cluster
from tests.support.residents import Residents
from tests.support.streaming import live
from tests.support.switching import ask, held, make_ready, said, shown, wait_for
from tests.support.waiting import until
from tests.switching.conftest import ONE, A, B, Serve, slow

pytestmark = pytest.mark.ray
BAD, CRASH, HUGE, HANGS = "echo/bad", "echo/crash", "echo/huge", "echo/hangs"
REASON = "The weights are damaged; pull them again."


def _degraded(api: Api, model: str) -> None:
    """`/healthz` and the model's page say what is wrong, and until when."""
    health = api.health()
    assert health["status"] == "degraded"
    assert model in health["failed_models"]
    view = shown(api, model)
    assert (view["status"], view["loaded"]) == ("failed", False)
    assert view["last_error"]
    assert 0 < view["retry_in_seconds"] <= 20


@pytest.mark.alone
def test_a_failed_load_is_told_to_all_that_wait_and_disturbs_nobody(
    serve: Serve, switching: Cluster
) -> None:
    """Room for two: A streams on while the others fail beside it."""
    models = [
        slow(A, preload=True),
        slow(B),
        slow(BAD, load_s=2, load_error=REASON),
        slow(CRASH, exit_on_load=True),
        slow(HUGE, footprint_gb=100_000),
        slow(HANGS, load_s=3600),
    ]
    api = serve("broken", *models, residency={**ONE, "max_resident": 2, "load_stall_s": 3})
    pid = switching.child.pid
    text = "word " * 600
    with live(api, A, text) as stream, Residents(pid, "broken") as watch:
        stream.read(1)

        # The reason reaches the one that is held, the one that streams, and those that come later.
        with ThreadPoolExecutor(3) as pool:
            waiting = [pool.submit(held, api, BAD) for _ in range(2)]
            streamed = pool.submit(held, api, BAD, stream=True)
            for answer in [future.result() for future in waiting]:
                assert REASON in refused(answer, LoadFailed)
                assert 1 <= int(answer.headers["retry-after"]) <= 60
            assert REASON in streamed.result().text, "refused, or an error frame after comments"
        _degraded(api, BAD)
        assert REASON in refused(ask(api, BAD), LoadFailed), "at once, not by a 202"
        assert watch.loads(BAD) == 1, "it cools down and is not tried again"

        # A crash in the middle of the load.
        message = refused(held(api, CRASH), LoadFailed)
        assert "ended unexpectedly" in message
        _degraded(api, CRASH)

        # One that can never fit is refused with the sizes, without being tried.
        message = refused(held(api, HUGE), LoadFailed)
        assert "100000.0 GiB" in message
        assert watch.loads(HUGE) == 0

        # One that gets no further.
        assert "no progress for 3 s" in refused(held(api, HANGS), LoadFailed)
        _degraded(api, HANGS)

        # The broken ones hold no place: another model is loaded beside A.
        assert said(held(api, B, "and me")) == "and me"
        stream.read()
    assert stream.text == text
    assert stream.done
    assert watch.loads(A) == 1
    assert watch.most() <= 2, watch.history
    until(lambda: api.health()["status"] == "ok", "the cooldowns are over", seconds=40)


def test_the_cooldown_doubles(serve: Serve) -> None:
    api = serve("cooldown", slow(A), slow(BAD, load_s=0.1, load_error=REASON))
    make_ready(api, A)
    refused(held(api, BAD), LoadFailed)
    first = shown(api, BAD)["retry_in_seconds"]
    wait_for(api, BAD, "failed")
    until(lambda: shown(api, BAD)["retry_in_seconds"] == 0, "the cooldown is over", seconds=20)
    refused(held(api, BAD), LoadFailed)
    second = shown(api, BAD)["retry_in_seconds"]
    assert 5 < first <= 10
    assert 15 < second <= 20
    assert said(held(api, A, "me")) == "me"
