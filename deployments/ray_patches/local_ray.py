"""Starts a Ray that only this machine can reach; no documented option keeps it on loopback."""

from __future__ import annotations

import logging
from typing import Any

_OBJECT_STORE_BYTES = 80 * 1024 * 1024  # Ray's minimum; our messages do not go through it


def start(*, dashboard: bool) -> Any:
    """A cluster of our own, in the environment of this process; returns Ray's context of it.

    Ray refuses an option that it does not know, so this cannot fail silently.
    """
    import ray

    return ray.init(
        address="local",  # a cluster of our own, even if RAY_ADDRESS or another one is there
        namespace="serve",
        _node_ip_address="127.0.0.1",
        object_store_memory=_OBJECT_STORE_BYTES,
        include_dashboard=dashboard,
        dashboard_host="127.0.0.1",
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
