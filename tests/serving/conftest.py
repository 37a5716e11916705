"""One Ray cluster for all tests of serving, its clients, and the applications on it.

Everything on it is reached through HAProxy, as a client meets it. Engines that one module alone
uses go with it: an idle vLLM polls, and takes a tenth of a core from all that comes later.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support import default_model
from tests.support.client import KEPT, Api
from tests.support.cluster import Cluster
from tests.support.inprocess import echo
from tests.support.tensorrt import environment
from tests.support.waiting import until

KEY = "sk-secret"
STRICT_TIMEOUT_S = 1.0
LOAD_S = 280.0
MODELS: list[dict[str, Any]] = [
    echo("echo/fast", max_running=64, context_length=100_000, defaults={"max_tokens": 8192}),
    echo("echo/slow", token_s=0.05, defaults={"max_tokens": 8192}),
    echo("echo/one", token_s=0.05, max_running=1, max_queued=2, defaults={"max_tokens": 8192}),
    echo("echo/fails", fail_after_tokens=3),
    # One for each death: a model that dies again soon after cools down, for longer each time.
    *[echo(f"echo/exits-{number}", exit_after_tokens=3) for number in (1, 2, 3)],
]


@pytest.fixture(scope="package")
def cluster() -> Iterator[Cluster]:
    """The application at `/` has a model for each behaviour."""
    models = [{**model, "preload": True} for model in MODELS]
    with Cluster({"models": models}) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def real_url(cluster: Cluster) -> Iterator[str]:
    """The default model, fetched if need be, beside the echo models."""
    yield cluster.deploy("real", {"models": [default_model.entry()]}, seconds=LOAD_S)
    cluster.delete("real")


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
    models = [default_model.entry(backend="vllm", engine=engine)]
    yield cluster.deploy("vllm", {"models": models}, seconds=LOAD_S)
    cluster.delete("vllm")


@pytest.fixture(scope="module")
def tensorrt_url(cluster: Cluster) -> Iterator[str]:
    """The same model in TensorRT-LLM, or in the fake of it."""
    engine = {"dtype": "float32"}
    model = default_model.entry(backend="tensorrt_llm", engine=engine, env=environment())
    yield cluster.deploy("tensorrt", {"models": [model]}, seconds=LOAD_S)
    cluster.delete("tensorrt")


@pytest.fixture(scope="package")
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


@pytest.fixture(scope="package")
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
