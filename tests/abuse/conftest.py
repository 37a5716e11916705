"""One server that `llm-serve` started, with an echo model, for all attacks."""

from __future__ import annotations

import resource
from collections.abc import Iterator

import pytest

from tests.support.inprocess import echo
from tests.support.whole import Whole, whole

BODY_S = 8.0


@pytest.fixture(scope="package")
def server() -> Iterator[Whole]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    config = {"models": [echo(preload=True)], "server": {"body_timeout_s": BODY_S}}
    try:
        with whole(config) as server:
            yield server
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
