"""Ray, Serve and the application, started by this process, which is a child of `llm-serve`
(`deployments.machine.ray_process`) or of a test.

with launch(order):
    while not is_deployed():
        time.sleep(0.1)
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from deployments.app.names import director_name
from deployments.machine import warm_worker
from deployments.machine.environment import (
    applied,
    ensure_token,
    haproxy_is_on,
    serve_env,
    start_env,
)
from deployments.ray_patches import local_ray
from deployments.ray_patches.actors import CONTROLLER
from deployments.ray_patches.check import RayChanged, check
from deployments.ray_patches.deploy import deploy
from deployments.schema import APPLICATION, ServeFile, deploy_schema
from llm_serve.config import DEFAULT_HOST
from llm_serve.host.processes import descendants, end, is_haproxy

_STOP_GRACE_S = 3.0
_DIRECTOR_S = 5.0
_VITAL = ("gcs_server", "raylet")


class StartFailed(Exception):
    """The server did not come up; the message is a sentence with the reason."""


class Order(ServeFile):
    """What to serve, and where the start puts what is its own: a folder with a short path, and the
    control socket of the door that holds the public address, if HAProxy is on."""

    folder: Path
    door: Path | None


@dataclass(frozen=True, slots=True)
class RayFacts:
    """What is known of a Ray that was started."""

    logs: str
    dashboard: str | None
    token: str | None
    """Where the token is that the dashboard asks for; None where it asks for none."""
    vital: dict[str, int]
    """The processes without which Ray is dead for good, by name."""


@contextmanager
def launch(order: Order, *, dashboard: bool = True) -> Iterator[RayFacts]:
    """Starts Ray and Serve and hands the application over; `is_deployed` tells when it runs. At the
    end of the block, or when the start fails, it ends both, and nothing else. Raises StartFailed.

    Ray's processes are bound to the calling thread and die with it: call from the main one.
    """
    variables = start_env(order, order.folder, order.door)
    variables |= warm_worker.environment(order.config, order.folder)
    with ExitStack() as stack:
        stack.enter_context(applied(variables, serve_env()))
        token = ensure_token(os.environ)
        before = set(descendants())
        stack.callback(_stop_ray, before)
        try:
            check()
        except RayChanged as error:
            raise StartFailed(str(error)) from None
        context = local_ray.start(dashboard=dashboard)
        new = [p for p in descendants() if p not in before]
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        # Behind a door the replicas' own ports stay on this machine, whatever the public address.
        host = DEFAULT_HOST if haproxy_is_on() else order.host
        deploy(deploy_schema(order.config, host, order.port, order.whole))
        yield RayFacts(
            logs=str(Path(context.address_info["session_dir"]) / "logs"),
            dashboard=f"http://{context.dashboard_url}" if context.dashboard_url else None,
            token=token,
            vital={p.name(): p.pid for p in new if p.name() in _VITAL},
        )


def is_deployed() -> bool:
    """Whether the application runs. Raises StartFailed if it never will."""
    from ray import serve

    application = serve.status().applications.get(APPLICATION)
    if application is not None and application.status == "DEPLOY_FAILED":
        why = last_line(application.message) or "The application could not be deployed."
        raise StartFailed(why)
    return application is not None and application.status == "RUNNING"


def has_controller() -> bool:
    """Whether Ray runs the Serve controller, or will start it again. One whose constructor raised
    is gone for good, and with it every change of what runs."""
    from ray.util import list_named_actors

    return any(a["name"] == CONTROLLER for a in list_named_actors(all_namespaces=True))


def drain() -> None:
    """From here on every new request is refused; those that run go on."""
    import ray

    director = ray.get_actor(director_name(APPLICATION), namespace="serve")
    ray.get(director.shutdown.remote(), timeout=_DIRECTOR_S)


def last_line(text: str) -> str:
    """The last line that is not blank; empty where there is none."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def _stop_ray(before: set[psutil.Process]) -> None:
    import ray

    mine = [p for p in descendants() if p not in before and not is_haproxy(p)]
    ray.shutdown()
    end(mine, _STOP_GRACE_S)
