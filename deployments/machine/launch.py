"""Ray, Serve and the application in this process, which is a child of `llm-serve` or of a test.

with launch(config, port=11424) as cluster:
    cluster.wait()
    httpx.get(cluster.url + "/v1/models")
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from deployments.app.names import director_name
from deployments.machine.environment import (
    applied,
    haproxy_is_on,
    longest_request_s,
    serve_env,
    start_env,
)
from deployments.machine.folder import own_folder
from deployments.machine.probe import Health, Probe
from deployments.machine.token import ensure_token
from deployments.machine.warm import environment
from deployments.ray_patches import local_ray
from deployments.ray_patches.actors import CONTROLLER
from deployments.ray_patches.check import RayChanged, check
from deployments.schema import APPLICATION, deploy_schema
from llm_serve.config import DEFAULT_HOST, DEFAULT_PORT, Config
from llm_serve.host.processes import descendants, end, is_haproxy
from llm_serve.host.worker_imports import FOLDER

_POLL_S = 0.1
_STOP_GRACE_S = 3.0
_DIRECTOR_S = 5.0
_VITAL = ("gcs_server", "raylet")


class StartFailed(Exception):
    """The server did not come up; the message is a sentence with the reason."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server puts what is its own: a folder with a short path, and the control socket of
    the door that holds its public address, if HAProxy is on."""

    folder: Path
    door: Path | None


class Cluster:
    """A Ray of our own and the server on it. `stop` ends both, and nothing else."""

    def __init__(
        self,
        config: Config,
        host: str,
        port: int,
        schema: Mapping[str, Any] | None = None,
        place: Place | None = None,
    ) -> None:
        """Without a place, the cluster has a folder and a door for itself."""
        self.config = config
        self._host = host
        self._port = port
        self._schema = schema
        self._place = place
        self.probe = Probe(config, host, port)
        self.url = self.probe.url
        self.dashboard: str | None = None
        self.token: str | None = None
        self.logs: Path | None = None
        self.warm_folder: Path | None = None
        self.vital: list[psutil.Process] = []
        """The processes without which Ray is dead for good."""
        self._cleanup = ExitStack()

    def start(self, *, dashboard: bool = True) -> None:
        """Starts Ray and Serve and hands the application over; `wait` waits for it.

        Ray's processes are bound to the calling thread and die with it: call from the main one.
        """
        place = self._place or self._own_place()
        longest = longest_request_s(self.config)
        variables = start_env(place.folder, self._host, longest, place.door)
        warm = environment(self.config, place.folder)
        self.warm_folder = Path(warm[FOLDER]) if warm else None
        variables |= warm
        self._cleanup.enter_context(applied(variables, serve_env()))
        self.token = ensure_token(os.environ)
        before = set(descendants())
        self._cleanup.callback(_stop_ray, before)
        try:
            check()  # imports ray.serve, which reads the environment once
        except RayChanged as error:
            raise StartFailed(str(error)) from None
        context = local_ray.start(dashboard=dashboard)
        self.dashboard = f"http://{context.dashboard_url}" if context.dashboard_url else None
        self.logs = Path(context.address_info["session_dir"]) / "logs"
        self.vital = [p for p in descendants() if p not in before and p.name() in _VITAL]
        self._deploy()

    def wait(
        self, report: Callable[[Health], None] | None = None, timeout_s: float | None = None
    ) -> Health:
        """Until no model is loading; the last `/healthz`. Raises StartFailed."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        last: Health | None = None
        while True:
            health = self.probe.health()
            if health is None:
                self.is_deployed()
            elif health != last:
                last = health
                if report is not None:
                    report(health)
                if health["status"] not in ("starting", "switching"):
                    return health
            if deadline is not None and time.monotonic() > deadline:
                raise StartFailed(f"The server was not up after {timeout_s:.0f} seconds.")
            time.sleep(_POLL_S)

    def is_deployed(self) -> bool:
        """Whether the application runs. Raises StartFailed if it never will."""
        from ray import serve

        application = serve.status().applications.get(APPLICATION)
        if application is not None and application.status == "DEPLOY_FAILED":
            raise StartFailed(_last_line(application.message))
        return application is not None and application.status == "RUNNING"

    def has_controller(self) -> bool:
        """Whether Ray runs the Serve controller, or will start it again. One whose constructor
        raised is gone for good, and with it every change of what runs."""
        from ray.util import list_named_actors

        actors = list_named_actors(all_namespaces=True)
        return any(actor["name"] == CONTROLLER for actor in actors)

    def drain(self) -> None:
        """From here on every new request is refused; those that run go on."""
        import ray

        director = ray.get_actor(director_name(APPLICATION), namespace="serve")
        ray.get(director.shutdown.remote(), timeout=_DIRECTOR_S)

    def stop(self) -> None:
        """Ends all that `start` started; at once where it was interrupted. Safe to call twice."""
        self._cleanup.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _own_place(self) -> Place:
        folder = self._cleanup.enter_context(own_folder())
        if not haproxy_is_on():
            return Place(folder, None)
        from deployments.door.door import DoorThread

        body_s = self.config.server.body_timeout_s
        door = DoorThread(folder, self._host, self._port, body_s)
        self._cleanup.callback(door.shut)
        door.open("The server is starting; try again shortly.")
        return Place(folder, door.control)

    def _deploy(self) -> None:
        from deployments.ray_patches.deploy import deploy

        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        host = DEFAULT_HOST if haproxy_is_on() else self._host
        deploy(deploy_schema(self.config, host, self._port, self._schema))


def launch(
    config: Config,
    *,
    host: str = DEFAULT_HOST,
    port: int = DEFAULT_PORT,
    dashboard: bool = True,
    schema: Mapping[str, Any] | None = None,
    place: Place | None = None,
) -> Cluster:
    """Starts it all; on any failure, an interrupt included, nothing is left running.

    `schema` is a whole configuration file, whose settings for Ray Serve hold besides `config`.
    """
    cluster = Cluster(config, host, port, schema, place)
    try:
        cluster.start(dashboard=dashboard)
    except BaseException:
        cluster.stop()
        raise
    return cluster


def _stop_ray(before: set[psutil.Process]) -> None:
    import ray

    mine = [p for p in descendants() if p not in before and not is_haproxy(p)]
    ray.shutdown()
    end(mine, _STOP_GRACE_S)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "The application could not be deployed."
