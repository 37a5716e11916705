"""A server on a cluster of several nodes, all simulated on this machine; see `nodes_child`."""

from __future__ import annotations

import httpx
import psutil

from tests.support.client import Api
from tests.support.cluster import Cluster
from tests.support.residents import Residents
from tests.support.waiting import until


class NodesCluster(Cluster):
    """Nodes come and go; the head stays."""

    child_module = "tests.support.nodes_child"

    def add(self, gpus: int = 1) -> int:
        node: int = self._send({"add": gpus})["node"]
        return node

    def remove(self, node: int) -> None:
        self._send({"remove": node})

    def nodes_of(self, watch: Residents) -> dict[str, int]:
        """The raylet under which each model runs."""
        return {model: psutil.Process(pid).ppid() for pid, model in watch.now().items()}


def wait_until_ok(api: Api) -> None:
    """The cluster is handed over before its application serves."""

    def serves() -> bool:
        try:
            return api.health()["status"] == "ok"
        except (httpx.TransportError, AssertionError, KeyError):  # no ingress yet
            return False

    until(serves, "the server is ok", seconds=60)
