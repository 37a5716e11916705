"""Whether the installed Ray still has what is used of it beyond its documented interface.

Every such use is in a file of this folder. `ray.init` itself refuses an option that it does not
know, so `local_ray` needs no entry here.

To adapt to another version: read what replaced the missing name, change the file that is named
beside it, and then `WRITTEN_FOR`.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

from deployments.ray_patches.actors import CONTROLLER, REPLICA
from deployments.ray_patches.grpc_port import REPLICA_MODULE

WRITTEN_FOR = "2.60"


def _is_there(found: Any) -> bool:
    return True


class Private(NamedTuple):
    """One name of Ray's that may move, the file of ours that needs it, and what it must be like."""

    module: str
    name: str
    used_by: str
    like: Callable[[Any], bool] = _is_there


RELIED_ON = (
    Private("ray.serve._private.controller", "CONTROL_LOOP_INTERVAL_S", "ray_patches/loop_pace"),
    Private(REPLICA_MODULE, "add_port_to_grpc_server", "ray_patches/grpc_port"),
    Private("ray.serve._private.controller", "ServeController.apply_config", "ray_patches/deploy"),
    Private("ray._private.grpc_utils", "init_grpc_channel", "ray_patches/prestart"),
    Private(
        "ray.core.generated.node_manager_pb2", "PrestartWorkersRequest", "ray_patches/prestart"
    ),
    Private(
        "ray.serve._private.constants",
        "SERVE_CONTROLLER_NAME",
        "ray_patches/actors",
        lambda name: bool(name == CONTROLLER),
    ),
    Private(
        "ray.serve._private.common",
        "REPLICA_ID_FULL_ID_STR_PREFIX",
        "ray_patches/actors",
        lambda prefix: bool(prefix == REPLICA),
    ),
    Private(
        "ray.serve.handle",
        "DeploymentHandle.options",
        "ray_patches/by_value",
        lambda options: "_by_reference" in inspect.signature(options).parameters,
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
        found: Any = importlib.import_module(private.module)
        for name in private.name.split("."):
            found = getattr(found, name)
    except (ImportError, AttributeError):
        return False
    return private.like(found)
