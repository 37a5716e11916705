"""One Ray cluster for the session; the tests of serving and of the README share it.

Everything on it is reached through HAProxy, as a client meets it. Engines that one module alone
uses go with it: an idle vLLM polls, and takes a tenth of a core from all that comes later.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from llm_serve.config import default_config
from tests.support.cluster import Cluster
from tests.support.inprocess import echo
from tests.support.tensorrt import environment

MODELS: list[dict[str, Any]] = [
    echo("echo/fast", max_running=64, context_length=100_000, defaults={"max_tokens": 8192}),
    echo("echo/slow", token_s=0.05, defaults={"max_tokens": 8192}),
    echo("echo/one", token_s=0.05, max_running=1, max_queued=2, defaults={"max_tokens": 8192}),
    echo("echo/fails", fail_after_tokens=3),
    # One for each death: a model that dies again soon after cools down, for longer each time.
    *[echo(f"echo/exits-{number}", exit_after_tokens=3) for number in (1, 2, 3)],
]


_LAST = ("serving", "docs")
"""They share the session's cluster, which need not idle beside the servers of the others."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """For `tests/chaos`, which a plain `pytest` leaves out; see the target `faults`."""
    parser.addoption("--minutes", type=float, default=2.0, help="how long the chaos lasts")
    parser.addoption("--seed", type=int, default=None, help="of the chaos; else it is drawn")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Packages stay together, in the order in which chance put them, so that their servers can go
    with them: an idle Ray takes a tenth of a core from all that comes later."""
    first: dict[Path, int] = {}
    for item in items:
        first.setdefault(item.path.parent, len(first))
    items.sort(key=lambda item: (item.path.parent.name in _LAST, first[item.path.parent]))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The application at `/` has a model for each behaviour."""
    models = [{**model, "preload": True} for model in MODELS]
    with Cluster({"models": models}) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def real_url(cluster: Cluster) -> str:
    """The default model, fetched if need be, beside the echo models."""
    engine = {"dtype": "float32", "device": "cpu"}
    return cluster.deploy("real", {"models": [_default(engine=engine)]}, seconds=280)


@pytest.fixture(scope="module")
def vllm_url(cluster: Cluster) -> Iterator[str]:
    """The same model in vLLM. Eager, and with a small cache: it starts sooner."""
    if find_spec("vllm") is None:
        pytest.skip("vLLM is not installed: make install-vllm")
    engine = {
        "dtype": "float32",
        "enforce_eager": True,
        "kv_cache_memory_bytes": 512 * 2**20,
        "max_num_seqs": 32,
    }
    models = [_default(backend="vllm", engine=engine)]
    yield cluster.deploy("vllm", {"models": models}, seconds=280)
    cluster.delete("vllm")


@pytest.fixture(scope="module")
def tensorrt_url(cluster: Cluster) -> Iterator[str]:
    """The same model in TensorRT-LLM, or in the fake of it."""
    model = _default(backend="tensorrt_llm", engine={"dtype": "float32"}, env=environment())
    yield cluster.deploy("tensorrt", {"models": [model]}, seconds=280)
    cluster.delete("tensorrt")


def _default(**fields: Any) -> dict[str, Any]:
    model = default_config().default_model.model_dump(mode="json", exclude_unset=True)
    # The guide's examples set no limit, and the model sometimes talks on to the default one.
    model["defaults"] = {**model["defaults"], "max_tokens": 64}
    return {**model, **fields}
