"""Whether the installed Ray still has what we use of it beyond its documented interface.

To adapt to another version: read what replaced the missing name, change the file that is named
beside it, and then `WRITTEN_FOR`.
"""

from __future__ import annotations

import importlib
from typing import NamedTuple

WRITTEN_FOR = "2.60"


class Private(NamedTuple):
    """One name of Ray's that may move, and the file of ours that needs it."""

    module: str
    name: str
    used_by: str


RELIED_ON = (
    Private("ray.serve._private.controller", "CONTROL_LOOP_INTERVAL_S", "ray_patches/loop_pace"),
    Private("ray.serve._private.replica", "add_port_to_grpc_server", "ray_patches/grpc_port"),
    Private("ray.serve._private.api", "serve_start", "ray_patches/deploy"),
    Private("ray.serve._private.client", "ServeControllerClient.deploy_apps", "ray_patches/deploy"),
    Private("ray._private.grpc_utils", "init_grpc_channel", "ray_patches/prestart"),
    Private(
        "ray.core.generated.node_manager_pb2", "PrestartWorkersRequest", "ray_patches/prestart"
    ),
)


class RayChanged(Exception):
    """The installed Ray is not the one that this was written for."""


def check() -> None:
    """Raises RayChanged with all that is missing."""
    missing = [one for one in RELIED_ON if not _has(one)]
    if missing:
        import ray

        what = "; ".join(f"{p.module}.{p.name} (deployments/{p.used_by}.py)" for p in missing)
        raise RayChanged(
            f"Ray {ray.__version__} lacks what this server uses: {what}. It was written for Ray "
            f"{WRITTEN_FOR}; install that, or adapt the files named."
        )


def _has(private: Private) -> bool:
    try:
        found = importlib.import_module(private.module)
        for name in private.name.split("."):
            found = getattr(found, name)
    except (ImportError, AttributeError):
        return False
    return True
