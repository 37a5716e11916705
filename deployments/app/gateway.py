"""From the API's routes to the models' handles; the director is asked where it must decide."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from ray.exceptions import ActorDiedError, RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from deployments.app.admission import Admission
from deployments.app.answers import not_ready, refusal
from deployments.app.director_client import DirectorAway, DirectorClient
from deployments.app.messages import Answer
from deployments.app.replica import STARTED
from deployments.ray_patches.by_value import by_value
from llm_serve.api.gateway import ComeBack, Readmit, ResponseShelf
from llm_serve.config import Config
from llm_serve.errors import Conflict, EngineDied, InternalError, NotReady, QueueFull, ServeError
from llm_serve.generation.request import GenerationRequest
from llm_serve.residency import effects as fx
from llm_serve.residency import events as ev
from llm_serve.status import Loading, ModelStatus, ServerStatus

log = logging.getLogger("ray.serve")
COMMENT_PERIOD_S = 3.0
_BULK = 256 * 1024
"""Characters above which a request goes by reference: by value, Ray's messages end at 4 MiB."""


class HandleGateway:
    """`llm_serve.api.gateway.Gateway` over handles; a ready model costs no other call."""

    def __init__(
        self,
        config: Config,
        models: dict[str, DeploymentHandle],
        director: DirectorClient,
        admission: dict[str, Admission],
        created: int,
    ) -> None:
        self._config = config
        self._handles = {model_id: by_value(handle) for model_id, handle in models.items()}
        self._bulk_handles = {
            model_id: handle.options(stream=True) for model_id, handle in models.items()
        }
        self._director = director
        self.responses: ResponseShelf = director
        self._admission = admission
        self._created = created

    def status(self) -> ServerStatus:
        view = self._director.view
        snapshot = ServerStatus("starting", ()) if view is None else view.snapshot
        shown = {m.id: m for m in snapshot.models}
        ids = [model.id for model in self._config.models]
        models = tuple(self._counted(shown.get(i, ModelStatus(i))) for i in ids)
        return replace(snapshot, models=models, created=self._created)

    async def changes(self) -> AsyncGenerator[ServerStatus, None]:
        version = 0
        while True:
            version = await self._director.changed(version)
            yield self.status()

    @contextmanager
    def place(self, request: GenerationRequest) -> Iterator[None]:
        """See Gateway. Raises QueueFull; Conflict while the server shuts down."""
        self._refuse_while_draining()
        admission = self._admission[request.model]
        try:
            with admission.place(request.sequences):
                if admission.must_report:
                    self._director.report_soon()
                yield
        except QueueFull:
            if admission.must_report:  # by newer figures there may be room
                self._director.report_soon()
            raise

    async def admit(
        self, request: GenerationRequest, hold_s: float | None
    ) -> AsyncGenerator[Loading, None]:
        """See Gateway. Asks the director only where the model is not ready."""
        self._refuse_while_draining()
        if self._director.may_send(request.model):
            return
        ticket = f"{request.id}-{uuid.uuid4().hex[:8]}"
        question = ev.Request(ticket, request.model, self._director.name, hold_s)
        answer = asyncio.ensure_future(self._director.ask(question))
        try:
            while not answer.done():
                await asyncio.wait({answer}, timeout=COMMENT_PERIOD_S)
                # Who is not held hears nothing before the answer: a comment would open the stream.
                if hold_s is None or answer.done():
                    continue
                yield self._loading(request.model)
            effect = answer.result()
        except DirectorAway:
            raise self._undecided(request.model, hold_s) from None
        finally:
            if not answer.done():
                answer.cancel()
                self._director.cancel(ticket)
        match effect:
            case fx.Admitted():
                return
            case fx.Accepted(loading=loading):
                raise ComeBack(loading)
            case _:
                raise refusal(effect, request.model)

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[bytes, None]:
        """See Gateway. Raises QueueFull, EngineDied, Readmit and the model's own."""
        if not self._director.may_send(request.model):
            raise Readmit
        with self._admission[request.model].sent(request.sequences):
            handles = self._bulk_handles if request.size > _BULK else self._handles
            messages = handles[request.model].generate.remote(request)
            try:
                first = await self._first(request.model, messages)
                assert first == STARTED
                async for message in messages:
                    yield message
            except BackPressureError:
                raise self._admission[request.model].full() from None
            except RayTaskError as error:
                raise _cause(error) from None
            except (RayError, DeploymentUnavailableError) as error:
                log.warning("%s failed: %s", request.id, type(error).__name__)
                # One that cannot be reached for a moment (ActorUnavailableError) may well live.
                if isinstance(error, ActorDiedError) and error.actor_id is not None:
                    self._director.replica_died(error.actor_id)
                raise EngineDied(
                    f"The engine of {request.model} died while it worked on this request; "
                    "send it again."
                ) from None
            finally:
                messages.cancel()

    async def load(self, model_id: str) -> Loading | None:
        """See Gateway. Raises LoadFailed, Conflict, NotReady."""
        self._refuse_while_draining()
        effect = await self._told(ev.Load(f"load-{uuid.uuid4().hex}", model_id))
        if isinstance(effect, fx.Admitted):
            return None
        if isinstance(effect, fx.Accepted):
            return effect.loading
        raise refusal(effect, model_id)

    async def unload(self, model_id: str) -> None:
        """See Gateway. Raises Conflict for a pinned model, NotReady."""
        effect = await self._told(ev.Unload(f"unload-{uuid.uuid4().hex}", model_id))
        if not isinstance(effect, fx.Done):
            raise refusal(effect, model_id)

    async def _told(self, question: ev.Load | ev.Unload) -> Answer:
        try:
            return await self._director.ask(question)
        except DirectorAway:
            raise NotReady(
                "Nobody decides about models at the moment; try again in 2 s.", retry_after_s=2
            ) from None

    def _undecided(self, model_id: str, hold_s: float | None) -> Exception:
        """What a request is told whose question the director has left open: as far as this ingress
        knows where the load stands."""
        loading = self._loading(model_id)
        return ComeBack(loading) if hold_s is None else not_ready(loading)

    def _refuse_while_draining(self) -> None:
        if self._director.view is not None and self._director.view.snapshot.state == "draining":
            raise Conflict("The server is shutting down.")

    async def _first(self, model: str, messages: AsyncGenerator[bytes, None]) -> bytes:
        """The message that a replica sends when it starts. Raises Readmit when the model leaves
        first (rule 8): the request waited in the handle's queue, where nothing would take it."""
        first = asyncio.ensure_future(anext(messages))
        try:
            while not first.done():
                leaving = self._director.leaving(model)
                either: set[asyncio.Future[Any]] = {first, leaving}
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                if not first.done() and not self._director.may_send(model):
                    raise Readmit
            return first.result()
        finally:
            if not first.done():
                first.cancel()

    def _loading(self, model_id: str) -> Loading:
        status = self.status()
        model = status.model(model_id)
        assert model is not None, "the routes let nothing through that is not configured"
        return Loading(model, status.current_model)

    def _counted(self, model: ModelStatus) -> ModelStatus:
        """What the scheduler published of a model, as of now and with what all ingresses count."""
        admission, age_s = self._admission[model.id], self._director.age_s
        left = None if model.eta_s is None else model.eta_s - age_s
        return replace(
            model,
            # What took longer than it ever did ends nobody knows when.
            eta_s=left if left is None or left > 0 else None,
            cooldown_s=max(0.0, model.cooldown_s - age_s),
            running=admission.running,
            queued=admission.queued,
        )


def _cause(error: RayTaskError) -> ServeError:
    if isinstance(error.cause, ServeError):
        return error.cause
    log.error("a replica failed: %s", error)
    return InternalError("The engine failed on this request; the server's log has the reason.")
