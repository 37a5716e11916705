"""The README's servers are started as the command line's are; its requests go to the real model."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cli.conftest import port, start
from tests.support import default_model
from tests.support.cluster import Cluster

__all__ = ["port", "start"]


EMBEDDER = "sentence-transformers/all-MiniLM-L6-v2"
"""The embedding model of the examples; a small random one stands for it."""


@pytest.fixture(scope="package")
def real_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    from tests.support.embedding_models import SIZE, Normalize, Pooling, base, save

    folder = tmp_path_factory.mktemp("embedder")
    save(folder / "whole", base(folder / "base"), Pooling(SIZE, "mean"), Normalize())
    embedder = {"id": EMBEDDER, "source": str(folder / "whole"), "preload": True}
    with Cluster({"models": [default_model.entry(preload=True), embedder]}) as cluster:
        yield cluster.url
