"""The README's servers are started as the command line's are; its requests go to the real model."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cli.conftest import port, start
from tests.support import default_model
from tests.support.cluster import Cluster

__all__ = ["port", "start"]


@pytest.fixture(scope="package")
def real_url() -> Iterator[str]:
    with Cluster({"models": [default_model.entry(preload=True)]}) as cluster:
        yield cluster.url
