"""A tensor-parallel vLLM engine on real Ray: a placement group, and a worker in each bundle.

The GPUs are numbers in Ray's books, and vLLM's workers compute on the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from llm_serve.config import default_config
from llm_serve.errors import LoadFailed
from tests.support.client import Api, refused
from tests.support.nodes import NodesCluster, wait_until_ok
from tests.support.switching import held, said, shown
from tests.support.waiting import until

pytestmark = [pytest.mark.ray, pytest.mark.vllm]
FAKE_GPUS = Path(__file__).parents[1] / "support/fakes/ray_gpus"
MODEL = "small/parallel"


@pytest.fixture
def nodes() -> Iterator[NodesCluster]:
    """The head has one GPU."""
    model = default_config().default_model.model_dump(mode="json", exclude_unset=True)
    model |= {"id": MODEL, "backend": "vllm", "preload": False}
    model["env"] = {"PYTHONPATH": str(FAKE_GPUS), "VLLM_CPU_OMP_THREADS_BIND": "0|0|0"}
    model["engine"] = {
        "dtype": "float32",
        "enforce_eager": True,
        "kv_cache_memory_bytes": 256 * 2**20,
        "tensor_parallel_size": 3,  # the model has three key heads
    }
    with NodesCluster({"models": [model]}) as cluster:
        yield cluster


def workers(nodes: NodesCluster) -> list[psutil.Process]:
    return nodes.processes("ray::RayWorkerProc")


def test_a_parallel_engine_has_a_worker_on_each_gpu_of_one_node(nodes: NodesCluster) -> None:
    with httpx.Client(base_url=nodes.url, timeout=240) as client:
        api = Api(client)
        wait_until_ok(api)
        assert "3 accelerators of one node, and no node has so many" in refused(
            held(api, MODEL), LoadFailed
        )
        nodes.add(gpus=3)

        def answered() -> str | None:
            response = held(api, MODEL, "Say hello.", max_tokens=8)
            return said(response) if response.status_code == 200 else None

        assert until(answered, "it is loaded on the new node", seconds=200)
        assert len(workers(nodes)) == 3
        assert len({worker.ppid() for worker in workers(nodes)}) == 1, "under one raylet"

        api.post(f"/v1/models/{MODEL}/unload", {})
        until(lambda: not workers(nodes), "the workers are gone", seconds=30)
        assert not shown(api, MODEL)["loaded"]
