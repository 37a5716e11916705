"""Clients of the session's cluster, and an application with strict limits on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.client import KEPT, Api
from tests.support.cluster import Cluster
from tests.support.inprocess import echo
from tests.support.waiting import until

KEY = "sk-secret"
STRICT_TIMEOUT_S = 1.0


@pytest.fixture(scope="session")
def server(cluster: Cluster) -> Iterator[Api]:
    with httpx.Client(base_url=cluster.url, timeout=60, limits=KEPT) as client:
        yield Api(client)


@pytest.fixture
def idle(server: Api) -> Iterator[Api]:
    """The server, with nothing running before and nothing left running after."""

    def nothing_runs() -> bool:
        health = server.health()
        return health["running"] == health["queue_depth"] == 0

    until(nothing_runs, "no request is running before the test", seconds=10)
    yield server
    until(nothing_runs, "no request is left running after the test", seconds=10)


@pytest.fixture(scope="session")
def strict(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """Under a route prefix: a key is wanted, an answer may take a second and a body 64 KiB."""
    keys: Path = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text(f"# the tests'\n{KEY}\n")
    config = {
        "models": [echo("echo/drip", token_s=0.3, max_running=1, max_queued=8, preload=True)],
        "server": {
            "api_key_file": str(keys),
            "inference_timeout_s": STRICT_TIMEOUT_S,
            "max_body_mb": 0.0625,
        },
    }
    url = cluster.deploy("strict", config)
    headers = {"authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=url, timeout=60, headers=headers, limits=KEPT) as client:
        yield Api(client)
