"""An ingress's side of the director: the newest view, usage reports, questions and answers.

The director is asked about models that are not ready and about stored responses, and about nothing
else. While it is away the last view stays in force, so that ready models are served; questions wait
for the next director.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError, TaskCancelledError

from deployments.app.admission import Admission
from deployments.app.director import Director
from deployments.app.messages import USAGE_PERIOD_S, Answer, DirectorReply, RoutingView
from deployments.app.names import director_name
from llm_serve.api.response_store import Recalled, StoredResponse
from llm_serve.config import Config
from llm_serve.errors import InternalError, NotReady
from llm_serve.residency import events as ev

log = logging.getLogger("ray.serve")
_RETRY_S = 0.2
_SHOWN_WITHIN_S = 2.0
"""An answer and its view leave the director together: if the view does not come, it has died."""
_PAUSE_S = 0.003
_ANSWER_S = 3.0
"""Who is not held waits so long for the director at most, and who is held so much longer."""
_HUNG_S = 30.0
"""A director that was heard before and takes no report for so long is stopped or stuck. Many times
the 0.1 s in which it answers, since its machine may be crowded."""
_BORN_S = 120.0
"""The same for one that was never heard: it may still be starting."""


class DirectorAway(Exception):
    """The director gave no answer in time."""


class DirectorClient:
    """Keeps `view` up to date from the moment it is made."""

    def __init__(
        self, app: str, name: str, config: Config, admission: dict[str, Admission]
    ) -> None:
        self.name = name
        self.view: RoutingView | None = None
        self._app = app
        self._config = config
        self._since = time.time()
        self._admission = admission
        self._director: Any = None
        self._ready: frozenset[str] = frozenset()
        self._news = asyncio.Condition()
        self._left: dict[str, asyncio.Future[None]] = {}
        self._must_report = asyncio.Event()
        self._taken = 0.0
        """When `view` was taken, by the monotonic clock."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._watch()), loop.create_task(self._report())]

    def may_send(self, model: str) -> bool:
        """Whether requests may go to the model without asking (rule 8)."""
        return model in self._ready

    @property
    def age_s(self) -> float:
        """How old the seconds in `view` are."""
        return 0.0 if self.view is None else time.monotonic() - self._taken + self.view.age_s

    @property
    def _version(self) -> int:
        """Of the snapshot that is routed by; 0 before the first one."""
        return 0 if self.view is None else self.view.snapshot.version

    def leaving(self, model: str) -> asyncio.Future[None]:
        """Done at the next view in which the model is not ready."""
        left = self._left.get(model)
        if left is None or left.done():
            left = self._left[model] = asyncio.get_running_loop().create_future()
        return left

    async def changed(self, version: int) -> int:
        """The version of the view once it is past `version`."""
        return (await self._view_past(version)).snapshot.version

    async def ask(self, question: ev.Request | ev.Load | ev.Unload) -> Answer:
        """The answer, once it shows in `view`: what a client asks next, it is told no older thing.

        If the director dies, the answer of the next one: a hold goes on, it does not begin anew.
        Raises DirectorAway where none comes in time, and InternalError for a defect of it.
        """
        hold_s = question.hold_s if isinstance(question, ev.Request) else None
        try:
            async with asyncio.timeout((hold_s or 0.0) + _ANSWER_S):
                told = await self._ask(question)
        except TimeoutError:
            log.warning("the director gave no answer in time")
            self.cancel(question.ticket)
            raise DirectorAway from None
        with suppress(TimeoutError):
            await asyncio.wait_for(self._view_past(told.version - 1), _SHOWN_WITHIN_S)
        return told.answer

    async def _ask(self, question: ev.Request | ev.Load | ev.Unload) -> DirectorReply:
        began = time.monotonic()
        while True:
            try:
                told: DirectorReply = await self._get().ask.remote(question)
            except TaskCancelledError:
                log.warning("the director took this ingress for gone, and forgot its question")
            except RayTaskError:  # it lives, and would fail again
                log.exception("the director failed on a question")
                raise InternalError(
                    "The server could not decide about this model; its log has the reason."
                ) from None
            except RayError as error:
                log.warning("the director did not answer: %s", type(error).__name__)
                self._director = None
            else:
                return told
            await asyncio.sleep(_RETRY_S)
            if isinstance(question, ev.Request) and question.hold_s is not None:
                left = max(0.0, question.hold_s - (time.monotonic() - began))
                question, began = replace(question, hold_s=left), time.monotonic()

    def cancel(self, ticket: str) -> None:
        """The client of a ticket left. Nothing waits for this."""
        self._get().cancel.remote(ticket)

    def report_soon(self) -> None:
        """Tells the others at once how many places are taken here, and hears how many there."""
        self._must_report.set()

    def replica_died(self, process: str) -> None:
        """Tells of a dead replica at once, before its reports are missed."""
        self._get().replica_died.remote(process)

    async def _view_past(self, version: int) -> RoutingView:
        async with self._news:
            await self._news.wait_for(lambda: self._version > version)
            assert self.view is not None
            return self.view

    # -- stored responses, which are the director's too: see `llm_serve.api.gateway.ResponseShelf`

    async def keep(self, response_id: str, stored: StoredResponse) -> None:
        try:
            await self._of_store("keep", response_id, stored)
        except NotReady:
            log.warning("a response is not stored: the director does not answer")

    async def response(self, owner: str, response_id: str) -> bytes | None:
        found: bytes | None = await self._of_store("response", owner, response_id)
        return found

    async def recall(self, owner: str, last: str | None, others: tuple[str, ...]) -> Recalled:
        found: Recalled = await self._of_store("recall", owner, last, others)
        return found

    async def forget(self, owner: str, response_id: str) -> bool:
        found: bool = await self._of_store("forget", owner, response_id)
        return found

    async def _of_store(self, method: str, *arguments: Any) -> Any:
        """What the director's method returns; the next one's, if it dies. Raises NotReady."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_ANSWER_S):
                while True:
                    director = self._get()
                    try:
                        return await getattr(director, method).remote(*arguments)
                    except RayError as error:
                        log.warning("the director did not answer: %s", type(error).__name__)
                        if self._director is director:
                            self._director = None
                    await asyncio.sleep(_RETRY_S)
        raise NotReady(
            "The stored responses cannot be reached at the moment; try again in 2 s.",
            retry_after_s=2,
        )

    def _get(self) -> Any:
        if self._director is None:
            actor = ray.remote(Director).options(
                name=director_name(self._app),
                namespace="serve",
                get_if_exists=True,
                lifetime="detached",
                max_restarts=-1,
                max_task_retries=0,
                max_concurrency=100_000,
                num_cpus=0,
                resources={"node:__internal_head__": 0.001},  # no worker's death takes it
            )
            self._director = actor.remote(self._app, self._config)
            self._director.configure.remote(self._config, self._since)
        return self._director

    async def _watch(self) -> None:
        seen = 0
        while True:
            try:
                view: RoutingView = await self._get().watch.remote(seen)
            except Exception as error:  # whatever it was, without a view nothing is routed
                log.warning("the director cannot be watched: %s", type(error).__name__)
                self._director = None
                await asyncio.sleep(_RETRY_S)
                continue
            if view.snapshot.version != seen:
                seen = view.snapshot.version
                await self._take(view)

    async def _take(self, view: RoutingView) -> None:
        before = self._ready
        self.view, self._ready = view, view.snapshot.ready()
        self._taken = time.monotonic()
        for shown in view.snapshot.models:
            if shown.id in self._admission:
                self._admission[shown.id].replicas = shown.replicas
        self._must_report.set()
        for model in list(self._left):
            if model not in self._ready:
                self._left.pop(model).set_result(None)
        if before - self._ready:
            log.info("leaving: %s", ", ".join(sorted(before - self._ready)))
        async with self._news:
            self._news.notify_all()

    async def _report(self) -> None:
        """Usage twice a second, and at once when a new view is in force; each answer says what the
        other ingresses have. A director that does not answer is ended, and Ray starts another."""
        heard: Any = None
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._must_report.wait(), USAGE_PERIOD_S)
            await asyncio.sleep(_PAUSE_S)  # a burst is one report
            self._must_report.clear()
            director: Any = None
            try:
                director = self._get()
                async with asyncio.timeout(_HUNG_S if heard is director else _BORN_S):
                    others: Mapping[str, ev.Use] = await director.usage.remote(self._usage())
            except TimeoutError:
                log.warning("the director hangs: ending it")
                with suppress(Exception):
                    ray.kill(director, no_restart=False)
                heard = self._director = None
            except Exception as error:  # an ingress that does not report no longer counts
                log.warning("the director did not take a report: %s", type(error).__name__)
                heard = self._director = None
            else:
                heard = director
                for model, admission in self._admission.items():
                    admission.hear(others.get(model))

    def _usage(self) -> ev.Usage:
        uses = {
            model: admission.use()
            for model, admission in self._admission.items()
            if admission.taken or admission.idle_s < 2 * USAGE_PERIOD_S
        }
        return ev.Usage(self.name, self._version, uses)
