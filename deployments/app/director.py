"""The director: the only one that decides which models are resident.

A thin actor around `llm_serve.residency.Scheduler`: Ray's facts become events, effects become
replica targets and answers. It holds no truth of its own (rule 9): killed, it comes back, hears
from the replicas that run, and goes on. It ends itself once neither an ingress nor the Serve
controller has spoken for `ORPHAN_S`: then its application is gone.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

import ray

from deployments.app.cluster_watch import ClusterWatch
from deployments.app.messages import (
    REPORT_PERIOD_S,
    SILENT_S,
    Answer,
    DirectorReply,
    Granted,
    Grants,
    ReplicaReport,
    RoutingView,
)
from deployments.app.scheduler_setup import scheduler_for
from llm_serve.api.response_store import Recalled, ResponseStore, StoredResponse
from llm_serve.config import Config
from llm_serve.models.measured import Measurements
from llm_serve.progress import ModelInfo
from llm_serve.residency import Scheduler
from llm_serve.residency import effects as fx
from llm_serve.residency import events as ev
from llm_serve.status import ServerStatus

log = logging.getLogger("ray.serve")
TICK_S = 0.1
STILL_TICK_S = 0.3
"""While no model comes or goes; what is said to the director it does at once."""
WATCH_S = 10.0
GRANTS_S = 1.0
"""The policy's question is answered within this, news or not."""
ORPHAN_S = 120.0
UNAPPLIED_S = 30.0
RECOVERY_S = 30.0
"""A new director waits so long for the reports of replicas that run, and only then decides: to take
a slow one for one that is leaving would end its work."""
_NOTHING = ServerStatus("starting", ())
"""Shown to nobody: whoever asks waits for the recovery."""


class Director:
    """See the module. Every method may be called by anybody, at any time, twice."""

    def __init__(self, app: str, config: Config) -> None:
        self._app = app
        self._config = config
        self._measurements = Measurements()
        self._infos: dict[str, ModelInfo] = {}
        """What earlier schedulers of this director knew of loaded models."""
        self._answers: dict[str, asyncio.Future[Answer]] = {}
        self._asked_by: dict[str, set[str]] = {}
        """The open tickets of every ingress."""
        self._ingresses: set[str] = set()
        """Those that have spoken and are not known to be gone."""
        self._may_load: set[str] = set()
        self._let_in = asyncio.Event()
        """Set, and another put in its place, whenever a replica may begin to load."""
        self._configured = 0.0
        self._grants: Grants = {}
        self._applied: dict[str, int] = {}
        self._news = asyncio.Event()
        self._recovered = asyncio.Event()
        """Until then nobody is answered, and the ingresses route by what they know."""
        self._heard = time.monotonic()
        self._born = time.monotonic()
        self._asked: float | None = None
        self._watch = ClusterWatch(app)
        self._files = ThreadPoolExecutor(1, "files")
        """One thread, so that what was measured is written before it is read again."""
        self._scheduler: Scheduler | None = None
        """None until `_run` has made one: files are looked at for that."""
        self._early: list[ev.Event] = []
        """What was said meanwhile."""
        self._responses = ResponseStore(config.server.response_store_bytes)
        self._view = RoutingView(_NOTHING)
        self._published = time.monotonic()
        self._work = asyncio.get_running_loop().create_task(self._run())

    # -- said by ingresses -------------------------------------------------------------------

    async def configure(self, config: Config, since: float = 0.0) -> None:
        """A new configuration of the same application; what runs is kept.

        `since` is when the ingress that says so was made: one of an older configuration, which
        still drains, does not turn a newer one back.
        """
        self._heard = time.monotonic()
        if since < self._configured:
            return
        self._configured = since
        if config == self._config:
            return
        log.info("a new configuration: starting over from what runs")
        self._work.cancel()
        self._recovered.clear()
        self._infos |= {m.id: m.info for m in self._view.snapshot.models if m.info is not None}
        self._config = config
        self._responses.limit(config.server.response_store_bytes)
        self._scheduler = None
        for ticket, answer in self._answers.items():
            if not answer.done():
                reason = "the configuration has just changed; send the request again"
                answer.set_result(fx.Declined(ticket, "", reason))
        self._work = asyncio.get_running_loop().create_task(self._run())

    async def ask(self, request: ev.Request | ev.Load | ev.Unload) -> DirectorReply:
        """Waits for the one answer to a ticket."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._answers[request.ticket] = answer
        ingress = request.ingress if isinstance(request, ev.Request) else ""
        self._ingresses.add(ingress)
        tickets = self._asked_by.setdefault(ingress, set())
        tickets.add(request.ticket)
        try:
            await self._recovered.wait()
            if not answer.done():  # the client may have left meanwhile
                self._handle(request)
            return DirectorReply(await answer, self._view.snapshot.version)
        finally:
            self._answers.pop(request.ticket, None)
            tickets.discard(request.ticket)
            if not tickets and self._asked_by.get(ingress) is tickets:
                del self._asked_by[ingress]

    async def cancel(self, ticket: str) -> None:
        """The client left: nobody reads an answer any more, and `ask` need not wait for one."""
        self._handle(ev.Cancel(ticket))
        answer = self._answers.pop(ticket, None)
        if answer is not None:
            answer.cancel()

    async def usage(self, usage: ev.Usage) -> Mapping[str, ev.Use]:
        """What the other ingresses have of each model."""
        self._heard = now = time.monotonic()
        self._ingresses.add(usage.ingress)
        self._handle(usage)
        if self._scheduler is None:
            return {}
        return self._scheduler.ingresses.others(usage.ingress, now, SILENT_S)

    async def replica_died(self, process: str) -> None:
        """A process is dead, says one who talked to it. That is hearsay: if it is not, its next
        report brings it back; if it is, the next look counts it."""
        for event in self._watch.doubt(process):
            self._handle(event)

    async def watch(self, seen: int) -> RoutingView:
        """The view once its version is another than `seen`, or the same one after a while.

        Not before recovery: a view without what runs would stop every ingress from serving it.
        """
        await self._recovered.wait()
        if self._view.snapshot.version == seen:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), WATCH_S)
            await self._recovered.wait()  # a new configuration came meanwhile
        return replace(self._view, age_s=time.monotonic() - self._published)

    async def shutdown(self) -> None:
        self._handle(ev.Shutdown())

    async def keep(self, response_id: str, stored: StoredResponse) -> None:
        """Stores a response. Of this and what is stored nothing outlives this director."""
        self._responses.keep(response_id, stored)

    async def response(self, owner: str, response_id: str) -> bytes | None:
        return self._responses.response(owner, response_id)

    async def recall(self, owner: str, last: str | None, others: tuple[str, ...]) -> Recalled:
        return self._responses.recall(owner, last, others)

    async def forget(self, owner: str, response_id: str) -> bool:
        return self._responses.forget(owner, response_id)

    # -- said by the Serve controller and the replicas ---------------------------------------

    async def grants(self, applied: dict[str, int], moving: bool) -> Granted:
        """What the policy may give each model, once that is another than `applied`, which it gave,
        or something begins or ceases to move; the same after a while."""
        self._heard = self._asked = time.monotonic()
        self._applied = applied
        with suppress(TimeoutError):
            async with asyncio.timeout(GRANTS_S):
                while self._in_motion() == moving and all(
                    applied.get(model) == generation
                    for model, (_, generation) in self._grants.items()
                ):
                    await self._news.wait()
        return Granted(self._grants, self._in_motion())

    async def report(self, report: ReplicaReport) -> bool:
        """Takes a replica's report; whether it may load its model. One that waits for that is
        answered when it may, or after a while."""
        event = self._watch.heard(report)
        if event is not None:
            self._handle(event)
        if report.state == "waiting":
            with suppress(TimeoutError):
                async with asyncio.timeout(REPORT_PERIOD_S):
                    while report.actor not in self._may_load:
                        await self._let_in.wait()
        return report.actor in self._may_load

    # -- the loop ----------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            try:
                if self._scheduler is None:
                    self._scheduler = await self._make_scheduler()
                    self._catch_up()
                if not self._recovered.is_set():
                    await self._recover()
                await self._look()
                capacity = await self._watch.nodes(self._config)
                if capacity is not None:
                    self._handle(capacity)
                self._without_policy()
                self._handle(ev.Tick())
            except Exception:
                log.exception("the director failed in a tick")
            if time.monotonic() - self._heard > ORPHAN_S:
                log.info("nobody has spoken for %g s: the application is gone", ORPHAN_S)
                ray.kill(ray.get_runtime_context().current_actor, no_restart=True)
            resting = self._recovered.is_set() and not self._in_motion()
            await asyncio.sleep(STILL_TICK_S if resting else TICK_S)

    def _catch_up(self) -> None:
        early, self._early = self._early, []
        for event in early:
            self._handle(event)

    async def _recover(self) -> None:
        """Hears from whoever runs before anything is decided."""
        for event in await self._watch.recover(RECOVERY_S, TICK_S):
            self._handle(event)
        self._recovered.set()

    async def _look(self) -> None:
        """Which processes there are: the only proof that a model's memory is free (rule 1)."""
        if not self._watch.due(self._in_motion()):
            return
        applied = dict(self._applied)  # a look counts for targets that were in force before it
        async for event in self._watch.look(set(self._ingresses), self._granted):
            if isinstance(event, ev.Died):
                self._may_load.discard(event.replica)
            self._handle(event)
        for model, (_, generation) in list(self._grants.items()):
            # The policy knows nothing of a model that is no longer configured: Ray ends it.
            if applied.get(model) == generation or self._config.model(model) is None:
                self._handle(ev.Running(model, generation, self._watch.running(model)))

    def _granted(self, model: str) -> int:
        return self._grants.get(model, (0, 0))[0]

    def _without_policy(self) -> None:
        """Fails loads that nobody will ever carry out, with the remedy."""
        if self._asked is not None or time.monotonic() - self._born < UNAPPLIED_S:
            return
        for model, (replicas, _) in list(self._grants.items()):
            if replicas:
                remedy = "the application has no autoscaling_policy; `llm-serve check` tells more"
                self._handle(ev.Unusable(model, f"{model}: none", remedy))

    def _in_motion(self) -> bool:
        return any(m.state in ("loading", "draining") for m in self._view.snapshot.models)

    def _handle(self, event: ev.Event) -> None:
        """Without a pause, so that no older target or snapshot can overtake a newer one."""
        if self._scheduler is None:
            self._early.append(event)
            return
        for effect in self._scheduler.handle(event, time.monotonic()):
            self._carry_out(effect)

    def _carry_out(self, effect: fx.Effect) -> None:
        match effect:
            case fx.Target(model, replicas, generation):
                self._grants = {**self._grants, model: (replicas, generation)}
            case fx.Publish(snapshot):
                self._publish(snapshot)
            case fx.Measured(model, footprint, load_s):
                config = self._config.model(model)
                if config is not None:
                    self._files.submit(self._measurements.keep, config, footprint, load_s)
            case fx.Begin(_, replica):
                self._may_load.add(replica)
                begun, self._let_in = self._let_in, asyncio.Event()
                begun.set()
            case fx.Displace(model, replica):
                log.warning("%s: no room where Ray put %s; Ray places another", model, replica)
                self._watch.end(replica)
            case fx.Forgotten(ingress):
                self._ingresses.discard(ingress)
                for ticket in self._asked_by.pop(ingress, set()):
                    if (answer := self._answers.pop(ticket, None)) is not None:
                        answer.cancel()
            case fx.Kill(model):
                self._watch.end_all(model)
            case _:
                answer = self._answers.get(effect.ticket)
                if answer is not None and not answer.done():
                    answer.set_result(effect)

    def _publish(self, snapshot: ServerStatus) -> None:
        self._published = time.monotonic()
        self._view = RoutingView(snapshot)
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def _make_scheduler(self) -> Scheduler:
        """In a thread: it reads files, and a slow disk must stop nobody."""
        config = self._config
        infos = dict(self._infos)
        # Neither an ingress nor the policy may take what this one says for what it has heard of an
        # earlier one.
        counts_from = time.time_ns() // 1000

        def make() -> Scheduler:
            bins = self._watch.count(config)
            known = self._measurements.known(config.models)
            return scheduler_for(config, bins, known, infos, counts_from)

        return await asyncio.get_running_loop().run_in_executor(self._files, make)
