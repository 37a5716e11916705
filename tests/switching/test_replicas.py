"""Several replicas of a model, and a configuration that changes while work is under way."""

from __future__ import annotations

import time

import httpx
import pytest

from tests.support.client import Api
from tests.support.cluster import Cluster
from tests.support.residents import Residents
from tests.support.streaming import live
from tests.support.switching import endless, held, make_ready, said, shown
from tests.support.waiting import until
from tests.switching.conftest import ONE, A, B, Serve, slow

pytestmark = pytest.mark.ray
LOAD_S = 6.0
RAYS_SHUTDOWN_S = 20.0
"""Ray's default for a replica that is told to go; a stream that is longer must end whole."""


def test_a_replica_that_loads_takes_nothing(serve: Serve) -> None:
    """A second replica is added while requests queue; no request waits for its load."""
    model = slow(A, load_s=LOAD_S, max_replicas=2, max_running=2)
    api = serve("replicas", model)
    make_ready(api, A)
    waits = []

    def request() -> None:
        began = time.monotonic()
        assert said(held(api, A, "word " * 10)) == "word " * 10
        waits.append(time.monotonic() - began)

    with endless(request), endless(request), endless(request), endless(request):
        until(lambda: shown(api, A)["replicas"] == 2, "there are two", seconds=60)
        count = len(waits)
        until(lambda: len(waits) > count + 20, "both serve")
    assert max(waits) < LOAD_S / 2, "a request waited for a replica that loads"


def test_a_changed_configuration_cuts_nothing_and_keeps_the_budget(
    serve: Serve, switching: Cluster
) -> None:
    """`serve deploy` in the middle of a stream that is longer than Ray's own patience."""
    api = serve("hot", slow(A, token_s=0.03), slow(B))
    make_ready(api, A)
    text = "word " * 1000
    with Residents(switching.child.pid, "hot") as watch, live(api, A, text) as stream:
        stream.read(1)
        began = time.monotonic()
        changed = {"models": [slow(A, token_s=0.03), slow(B, token_s=0.01)], "residency": ONE}
        switching.deploy("hot", changed)
        stream.read()
        assert time.monotonic() - began > RAYS_SHUTDOWN_S
        assert stream.error is None
        assert stream.text == text
        assert stream.done
        with httpx.Client(base_url=api.client.base_url, timeout=90) as client:
            again = Api(client)

            def answers() -> bool:
                return held(again, A, "again").status_code == 200

            until(answers, "A answers under the new configuration", seconds=60)
            assert said(held(again, B, "and me")) == "and me"
    assert watch.most() == 1, watch.overlaps()
