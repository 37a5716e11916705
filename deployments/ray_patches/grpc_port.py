"""Keeps the port that replicas have for each other off the network.

A Serve replica opens a gRPC port for calls from other replicas, which carry pickles, on every
interface. Ray's token guards it, but on one machine nobody else needs it at all, and Ray 2.60 has
no setting for its address. With LLM_SERVE_INNER_HOST set, it is bound there.
"""

from __future__ import annotations

import os
import sys
from typing import Any

REPLICA_MODULE = "ray.serve._private.replica"
"""Where the port is opened. A process that is to be patched must have imported it before ours."""


def keep_inner_ports_local() -> None:
    """Runs when a replica imports the code that it serves, which is before it opens the port."""
    host = os.environ.get("LLM_SERVE_INNER_HOST")
    replica = sys.modules.get(REPLICA_MODULE)
    if not host or replica is None:
        return
    add_port = replica.add_port_to_grpc_server

    def add_local_port(server: Any, address: str, *args: Any, **kwargs: Any) -> Any:
        return add_port(server, address.replace("[::]", host), *args, **kwargs)

    vars(replica)["add_port_to_grpc_server"] = add_local_port
