"""The ingress: the API's app, and a gateway from it to the models' handles."""

from __future__ import annotations

import asyncio
import logging
import os
import time
import uuid
from collections.abc import AsyncGenerator
from typing import Any

from ray import serve
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle
from starlette.applications import Starlette

from deployments.admission import Admission
from deployments.link import DirectorLink
from deployments.model import STARTED
from deployments.waiting import accepted, loading_of, refusal
from llm_serve.api.app import create_app
from llm_serve.api.job import Job
from llm_serve.api.loading import Loading, Readmit
from llm_serve.config import Config
from llm_serve.errors import EngineDied, InternalError, ServeError
from llm_serve.keys import read_keys
from llm_serve.residency import effects as fx
from llm_serve.residency import events as ev
from llm_serve.status import ModelStatus, ServerStatus

log = logging.getLogger("ray.serve")
COMMENT_PERIOD_S = 3.0
_BULK = 256 * 1024
"""Characters above which a job goes by reference: by value, Ray's messages end at 4 MiB."""


@serve.ingress()
class Ingress:
    """`llm_serve.api.gateway.Gateway` over handles; a ready model costs no other call."""

    def __init__(self, config: Config, models: dict[str, DeploymentHandle]) -> None:
        self._config = config
        self._handles = {
            model_id: handle.options(stream=True, _by_reference=False)
            for model_id, handle in models.items()
        }
        self._bulk_handles = {
            model_id: handle.options(stream=True) for model_id, handle in models.items()
        }
        self._admission = {m.id: Admission(m) for m in config.models}
        self._created = int(time.time())
        self._keys = read_keys(config.server.api_key_file)
        context = serve.get_replica_context()
        self._link = DirectorLink(
            context.app_name, context.replica_id.unique_id, config, self._admission
        )

    def __serve_build_asgi_app__(self) -> Starlette:
        return create_app(self._config, self, self._keys, os.environ.get("LLM_SERVE_HOST"))

    def status(self) -> ServerStatus:
        view = self._link.view
        if view is None:
            models = tuple(ModelStatus(m.id, m.backend) for m in self._config.models)
            return ServerStatus("starting", models, self._created)
        snapshot = view.snapshot
        shown = {m.model: m for m in snapshot.models}
        models = tuple(
            self._model_status(m.id, m.backend, shown.get(m.id)) for m in self._config.models
        )
        target, current = snapshot.switch_target, snapshot.current_model
        return ServerStatus(snapshot.status, models, self._created, target, current)

    async def changes(self) -> AsyncGenerator[ServerStatus, None]:
        tick = -1
        while True:
            tick = await self._link.changed(tick)
            yield self.status()

    async def admit(self, job: Job, hold_s: float | None) -> AsyncGenerator[Loading, None]:
        """See Gateway. Asks the director only where the model is not ready."""
        if self._link.may_send(job.model):
            return
        ticket = f"{job.id}-{uuid.uuid4().hex[:8]}"
        request = ev.Request(ticket, job.model, self._link.name, hold_s)
        answer = asyncio.ensure_future(self._link.ask(request))
        try:
            while not answer.done():
                await asyncio.wait({answer}, timeout=COMMENT_PERIOD_S)
                # Who is not held hears nothing before the answer: a comment would open the stream.
                if hold_s is None or answer.done():
                    continue
                if (loading := self._loading(job.model)) is not None:
                    yield loading
            effect = answer.result()
        finally:
            if not answer.done():
                answer.cancel()
                self._link.cancel(ticket)
        match effect:
            case fx.Admitted():
                return
            case fx.Accepted(_, waiting):
                raise accepted(waiting)
            case _:
                raise refusal(effect, job.model)

    async def generate(self, job: Job) -> AsyncGenerator[bytes, None]:
        """See Gateway. Raises QueueFull, EngineDied, Readmit and the model's own."""
        if not self._link.may_send(job.model):
            raise Readmit
        with self._admission[job.model].place():
            handles = self._bulk_handles if job.size > _BULK else self._handles
            messages = handles[job.model].generate.remote(job)
            try:
                first = await self._first(job.model, messages)
                assert first == STARTED
                async for message in messages:
                    yield message
            except BackPressureError:
                raise self._admission[job.model].full() from None
            except RayTaskError as error:
                raise _cause(error) from None
            except (RayError, DeploymentUnavailableError) as error:
                log.warning("%s failed: %s", job.id, type(error).__name__)
                if isinstance(error, RayActorError) and error.actor_id is not None:
                    self._link.bury(error.actor_id)
                raise EngineDied(
                    f"The engine of {job.model} died while it worked on this request; "
                    "send it again."
                ) from None
            finally:
                messages.cancel()

    async def load(self, model_id: str) -> Loading | None:
        """See Gateway. Raises LoadFailed, Conflict."""
        ticket = f"load-{uuid.uuid4().hex}"
        effect = await self._link.ask(ev.Load(ticket, model_id))
        if isinstance(effect, fx.Admitted):
            return None
        if isinstance(effect, fx.Accepted):
            return loading_of(effect.waiting)
        raise refusal(effect, model_id)

    async def unload(self, model_id: str) -> None:
        """See Gateway. Raises Conflict for a pinned model."""
        effect = await self._link.ask(ev.Unload(f"unload-{uuid.uuid4().hex}", model_id))
        if not isinstance(effect, fx.Done):
            raise refusal(effect, model_id)

    async def _first(self, model: str, messages: AsyncGenerator[bytes, None]) -> bytes:
        """The message that a replica sends when it starts. Raises Readmit when the model leaves
        first (rule 8): the request waited in the handle's queue, where nothing would take it."""
        first = asyncio.ensure_future(anext(messages))
        try:
            while not first.done():
                leaving = self._link.leaving(model)
                either: set[asyncio.Future[Any]] = {first, leaving}
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                if not first.done() and not self._link.may_send(model):
                    raise Readmit
            return first.result()
        finally:
            if not first.done():
                first.cancel()

    def _loading(self, model_id: str) -> Loading | None:
        status = self.status()
        model = status.model(model_id)
        if model is None:
            return None
        return Loading(
            model=model_id,
            current_model=status.current_model,
            retry_after_s=2,
            eta_s=model.eta_s,
            stage=model.stage,
            progress=model.progress,
            position=model.position,
        )

    def _model_status(
        self, model_id: str, backend: str, shown: fx.ModelStatus | None
    ) -> ModelStatus:
        admission = self._admission[model_id]
        view = self._link.view
        if shown is None or view is None:
            return ModelStatus(model_id, backend)
        return ModelStatus(
            id=model_id,
            backend=backend,
            state=shown.status,
            stage=shown.stage if shown.status == "loading" else None,
            progress=shown.progress if shown.status == "loading" else None,
            error=shown.last_error,
            cooldown_s=shown.cooldown_s,
            eta_s=shown.eta_s,
            position=shown.position,
            replicas=shown.replicas,
            pinned=shown.pinned,
            info=view.infos.get(model_id),
            running=admission.running,
            queued=admission.queued,
        )


def _cause(error: RayTaskError) -> ServeError:
    if isinstance(error.cause, ServeError):
        return error.cause
    log.error("a replica failed: %s", error)
    return InternalError("The engine failed on this request; the server's log has the reason.")
