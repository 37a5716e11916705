"""Asks Ray's own process of this machine for one more idle worker; no public call does."""

from __future__ import annotations

from typing import Any


class Raylet:
    """Ray's own process that starts workers, on this machine."""

    def __init__(self, keep_s: int) -> None:
        """`keep_s`: seconds for which Ray may not end a worker for being idle."""
        import ray
        from ray._private.grpc_utils import init_grpc_channel
        from ray.core.generated import node_manager_pb2_grpc

        self._keep_s = keep_s
        me = ray.get_runtime_context().get_node_id()
        node = next(node for node in ray.nodes() if node["NodeID"] == me)
        address = f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}"
        self._stub: Any = node_manager_pb2_grpc.NodeManagerServiceStub(init_grpc_channel(address))

    def start_worker(self) -> None:
        """One idle worker more than there are, for whatever comes next."""
        from ray.core.generated import common_pb2, node_manager_pb2

        request = node_manager_pb2.PrestartWorkersRequest(
            language=common_pb2.Language.PYTHON,
            keep_alive_duration_secs=self._keep_s,
            num_workers=1,
        )
        self._stub.PrestartWorkers(request, timeout=5)
