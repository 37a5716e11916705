"""Two simulated nodes with an accelerator each: models spread, and come back where there is room.

`ray.cluster_utils.Cluster` runs every node's raylet on this machine.
"""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from deployments.schema import APPLICATION
from tests.support.client import Api
from tests.support.nodes import NodesCluster, wait_until_ok
from tests.support.residents import Residents
from tests.support.switching import held, said, shown
from tests.support.waiting import until
from tests.switching.conftest import ONE, A, B, C, slow

pytestmark = pytest.mark.ray


@pytest.fixture
def nodes() -> Iterator[NodesCluster]:
    models = [slow(model, num_gpus=1) for model in (A, B, C)]
    residency = {**ONE, "max_resident": None}
    with NodesCluster({"models": models, "residency": residency}) as cluster:
        yield cluster


def test_models_spread_and_come_back_when_a_node_dies(nodes: NodesCluster) -> None:
    with (
        httpx.Client(base_url=nodes.url, timeout=90) as client,
        Residents(nodes.child.pid, APPLICATION) as watch,
    ):
        api = Api(client)
        wait_until_ok(api)
        assert said(held(api, A, "me")) == "me"
        (head,) = set(nodes.nodes_of(watch).values())
        worker = nodes.add()

        # Room for a second, once the director has counted the nodes again.
        def both() -> bool:
            for model in (A, B):
                assert said(held(api, model, "me")) == "me"
            return shown(api, A)["loaded"] and shown(api, B)["loaded"]

        until(both, "both are loaded", seconds=60)
        where = nodes.nodes_of(watch)
        assert where[A] != where[B]
        stays = A if where[A] == head else B
        goes = B if stays == A else A

        # The node dies. Its model is gone and soon shown so; the other one is served on.
        nodes.remove(worker)
        assert said(held(api, stays, "still")) == "still"
        until(lambda: not shown(api, goes)["loaded"], f"{goes} is gone", seconds=200)

        # It comes back elsewhere when it is asked for: the other one makes room for it.
        def answered() -> bool:
            response = held(api, goes, "again")
            assert response.status_code in (200, 502, 503), response.text
            return response.status_code == 200

        until(answered, f"{goes} answers from the node that is left", seconds=200)
        assert nodes.nodes_of(watch) == {goes: where[stays]}
    assert all(len(seen) <= 2 for seen in watch.history), watch.history
