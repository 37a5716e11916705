"""The ingress: the API's app, and a gateway from it to the models' handles."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from pathlib import Path

from ray import serve
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle
from starlette.applications import Starlette

from deployments.admission import Admission
from deployments.director import ReplicaReport, View
from llm_serve.api.app import create_app
from llm_serve.api.job import Job
from llm_serve.config import Config, ModelConfig
from llm_serve.errors import EngineDied, InternalError, LoadFailed, NotReady, ServeError
from llm_serve.status import ModelStatus, ServerStatus, server_state

log = logging.getLogger("ray.serve")
_BULK = 256 * 1024
"""Characters above which a job goes by reference: by value, Ray's messages end at 4 MiB."""
_STATES_BEST_FIRST = ("ready", "loading", "failed", "draining", "queued", "unloaded")


@serve.ingress()
class Ingress:
    """`llm_serve.api.gateway.Gateway` over handles; a ready model costs no other call."""

    def __init__(
        self, config: Config, director: DeploymentHandle, models: dict[str, DeploymentHandle]
    ) -> None:
        self._config = config
        self._director = director
        self._handles = {
            model_id: handle.options(stream=True, _by_reference=False)
            for model_id, handle in models.items()
        }
        self._bulk_handles = {
            model_id: handle.options(stream=True) for model_id, handle in models.items()
        }
        self._admission = {m.id: Admission(m) for m in config.models}
        self._created = int(time.time())
        self._view = View(0, ())
        self._keys = read_keys(config.server.api_key_file)
        self._tellings: set[asyncio.Task[None]] = set()
        self._watcher = asyncio.get_running_loop().create_task(self._watch())

    def __serve_build_asgi_app__(self) -> Starlette:
        return create_app(self._config, self, self._keys)

    def status(self) -> ServerStatus:
        models = tuple(self._model_status(model) for model in self._config.models)
        return ServerStatus(server_state(models), models, self._created)

    async def generate(self, job: Job) -> AsyncGenerator[bytes, None]:
        """See Gateway. Raises QueueFull, NotReady, LoadFailed, EngineDied and the model's own."""
        report = self._best_report(job.model)
        _refuse_unless_ready(job.model, report)
        with self._admission[job.model].place():
            handles = self._bulk_handles if job.size > _BULK else self._handles
            messages = handles[job.model].generate.remote(job)
            try:
                async for message in messages:
                    yield message
            except BackPressureError:
                raise self._admission[job.model].full() from None
            except RayTaskError as error:
                raise _cause(error) from None
            except (RayError, DeploymentUnavailableError) as error:
                log.warning("%s failed: %s", job.id, type(error).__name__)
                if isinstance(error, RayActorError) and error.actor_id is not None:
                    self._bury(error.actor_id)
                raise EngineDied(
                    f"The engine of {job.model} died while it worked on this request; "
                    "send it again."
                ) from None
            finally:
                messages.cancel()

    def _model_status(self, model: ModelConfig) -> ModelStatus:
        report = self._best_report(model.id)
        admission = self._admission[model.id]
        if report is None:
            return ModelStatus(model.id, model.backend)
        progress = report.progress
        return ModelStatus(
            id=model.id,
            backend=model.backend,
            state=report.state,
            stage=progress.stage if progress else None,
            progress=progress.fraction if progress else None,
            error=report.error,
            info=report.info,
            running=admission.running,
            queued=admission.queued,
        )

    def _best_report(self, model_id: str) -> ReplicaReport | None:
        mine = [r for r in self._view.reports if r.model == model_id]
        return min(mine, key=lambda r: _STATES_BEST_FIRST.index(r.state), default=None)

    def _bury(self, actor: str) -> None:
        """What a dead replica last said must not stand until the director misses its reports."""
        alive = tuple(r for r in self._view.reports if r.actor != actor)
        self._view = View(self._view.version, alive)
        task = asyncio.get_running_loop().create_task(self._tell_of_death(actor))
        self._tellings.add(task)
        task.add_done_callback(self._tellings.discard)

    async def _tell_of_death(self, actor: str) -> None:
        try:
            await self._director.bury.remote(actor)
        except Exception as error:
            log.warning("the director did not hear of a death: %s", type(error).__name__)

    async def _watch(self) -> None:
        """Keeps the newest view; the last one stays in force while the director is away."""
        while True:
            try:
                self._view = await self._director.watch.remote(self._view.version)
            except Exception as error:
                log.warning("the director cannot be watched: %s", type(error).__name__)
                await asyncio.sleep(0.5)


def read_keys(path: str | None) -> tuple[str, ...]:
    """The keys of the file, one a line; blank lines and `#` comments are skipped.

    Raises ValueError for a file that cannot be read or holds no key: a server that was meant to
    have keys must not start without.
    """
    if path is None:
        return ()
    try:
        lines = Path(path).expanduser().read_text().splitlines()
    except OSError as error:
        raise ValueError(f"server.api_key_file cannot be read: {error.strerror}") from None
    keys = tuple(k for line in lines if (k := line.strip()) and not k.startswith("#"))
    if not keys:
        raise ValueError("server.api_key_file holds no key; write one a line")
    return keys


def _refuse_unless_ready(model_id: str, report: ReplicaReport | None) -> None:
    if report is not None and report.state == "ready":
        return
    if report is not None and report.state == "failed":
        raise LoadFailed(f"{model_id} could not be loaded: {report.error}", retry_after_s=60)
    progress = report.progress if report is not None else None
    doing = f"is loading ({progress.stage})" if progress else "is starting"
    raise NotReady(f"{model_id} {doing}; try again shortly.", retry_after_s=2)


def _cause(error: RayTaskError) -> ServeError:
    if isinstance(error.cause, ServeError):
        return error.cause
    log.error("a replica failed: %s", error)
    return InternalError("The engine failed on this request; the server's log has the reason.")
