"""One Ray cluster for the tests of switching: echo models, and room for one of them at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from deployments.schema import APPLICATION
from tests.support.client import KEPT, Api
from tests.support.cluster import Cluster
from tests.support.inprocess import echo
from tests.support.residents import Residents
from tests.support.switching import make_cold, wait_until_idle

A, B, C = "echo/a", "echo/b", "echo/c"
MAX_WAIT_S = 2.0
ONE = {"max_resident": 1, "min_residency_s": 0.2, "max_wait_s": MAX_WAIT_S}
"""A budget for one model, and no long waits."""

Serve = Callable[..., Api]


def slow(model: str, **fields: Any) -> dict[str, Any]:
    """An echo model: half a second to load, 20 ms a token."""
    return echo(model, **{"load_s": 0.5, "token_s": 0.02, **fields})


@pytest.fixture(scope="package")
def switching() -> Iterator[Cluster]:
    """Three models and room for one at `/`; `serve` adds other applications."""
    config = {"models": [slow(A), slow(B), slow(C)], "residency": ONE}
    with Cluster(config) as cluster:
        yield cluster


@pytest.fixture(scope="package")
def _api(switching: Cluster) -> Iterator[Api]:
    with httpx.Client(base_url=switching.url, timeout=90, limits=KEPT) as client:
        yield Api(client)


@pytest.fixture
def api(_api: Api) -> Iterator[Api]:
    """The application at `/`, at rest before and after."""
    wait_until_idle(_api)
    yield _api
    wait_until_idle(_api)


@pytest.fixture
def cold(api: Api) -> Api:
    """The same with no model loaded."""
    make_cold(api, A, B, C)
    wait_until_idle(api)
    return api


@pytest.fixture
def residents(switching: Cluster) -> Iterator[Residents]:
    """Watches the models of the application at `/`: there is never more than one (rule 1)."""
    with Residents(switching.child.pid, APPLICATION) as watch:
        yield watch
    assert watch.most() <= 1, watch.overlaps()


@pytest.fixture
def serve(switching: Cluster) -> Iterator[Serve]:
    """Deploys an application of its own for a test; it goes with the test."""
    with ExitStack() as stack:

        def deploy(name: str, *models: dict[str, Any], **sections: Any) -> Api:
            config = {"models": list(models), "residency": ONE, **sections}
            url = switching.deploy(name, config)
            stack.callback(switching.delete, name)
            client = httpx.Client(base_url=url, timeout=90, limits=KEPT)
            return Api(stack.enter_context(client))

        yield deploy
