"""Asks Ray's own process of this machine for one more idle worker; no public call does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Raylet:
    """Ray's own process that starts workers, on this machine."""

    def __init__(self, keep_s: int) -> None:
        """`keep_s`: seconds for which Ray may not end a worker for being idle."""
        import ray
        from ray._private.grpc_utils import init_grpc_channel
        from ray.core.generated import node_manager_pb2 as messages

        me = ray.get_runtime_context().get_node_id()
        node = next(node for node in ray.nodes() if node["NodeID"] == me)
        address = f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}"
        self._call: Callable[..., Any] = init_grpc_channel(address).unary_unary(
            "/ray.rpc.NodeManagerService/PrestartWorkers",
            request_serializer=messages.PrestartWorkersRequest.SerializeToString,
            response_deserializer=messages.PrestartWorkersReply.FromString,
        )
        # The language that is left out is Python.
        self._request = messages.PrestartWorkersRequest(
            keep_alive_duration_secs=keep_s, num_workers=1
        )

    def start_worker(self) -> None:
        """Starts one idle worker more than there are, for whatever comes next."""
        self._call(self._request, timeout=5)
