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
from typing import Any

import ray

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
from deployments.app.replica_census import ReplicaCensus
from deployments.app.scheduler_setup import scheduler_for
from deployments.cluster.deaths import ENDED, here, look, reason
from deployments.cluster.nodes import GpuMemory, capacity, left_behind
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
NODES_S = 2.0
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
        self._doubted: set[str] = set()
        """Replicas that somebody took for dead and that have not reported since."""
        self._may_load: set[str] = set()
        self._actors: dict[str, Any] = {}
        self._let_in = asyncio.Event()
        """Set, and another put in its place, whenever a replica may begin to load."""
        self._configured = 0.0
        self._grants: Grants = {}
        self._applied: dict[str, int] = {}
        self._reports: dict[str, ReplicaReport] = {}
        self._unheard: dict[str, str] = {}
        """Replicas that ran when this director began and have not reported since, with their
        models."""
        self._news = asyncio.Event()
        self._recovered = asyncio.Event()
        """Until then nobody is answered, and the ingresses route by what they know."""
        self._heard = time.monotonic()
        self._born = self._counted = time.monotonic()
        self._asked: float | None = None
        self._census = ReplicaCensus(app)
        self._gpus = GpuMemory()
        self._capacity: dict[str, int] = {}
        self._files = ThreadPoolExecutor(1, "files")
        """One thread, so that what was measured is written before it is read again."""
        self._scheduler: Scheduler | None = None
        """None until `_run` has made one: files are looked at for that."""
        self._early: list[ev.Event] = []
        """What was said meanwhile."""
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
        self._scheduler = None
        for ticket, answer in self._answers.items():
            if not answer.done():
                reason = "the configuration has just changed; send the request again"
                answer.set_result(fx.Refused(ticket, "", reason))
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
        for report in [r for r in self._reports.values() if r.process == process]:
            self._doubted.add(report.actor)
            self._census.hurry()
            self._handle(ev.Doubted(report.model, report.actor))

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
        before = self._reports.get(report.actor)
        self._reports[report.actor] = report
        self._unheard.pop(report.actor, None)
        if before is None:
            self._finding = asyncio.get_running_loop().create_task(self._find(report.actor))
        if before is None or before != report or report.actor in self._doubted:
            self._doubted.discard(report.actor)
            self._handle(self._event(report))
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
                await self._count_nodes()
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
        deadline = time.monotonic() + RECOVERY_S
        while True:
            running = await self._census.replicas()
            heard = set(self._reports)
            missing = {actor for actors in running.values() for actor in actors} - heard
            if not missing or time.monotonic() > deadline:
                break
            await asyncio.sleep(TICK_S)
        self._unheard.clear()
        for model, actors in running.items():
            for actor in actors:
                if actor not in self._reports:
                    self._unheard[actor] = model
                observed = _observed(model, actor, self._reports.get(actor))
                if observed is not None:
                    self._handle(observed)
        self._handle(ev.Recovered())
        seen = {actor for actors in running.values() for actor in actors}
        for report in list(self._reports.values()):
            sized = report.state == "loading" and report.estimate is not None
            if report.state == "waiting" or report.actor not in seen or sized:
                self._handle(self._event(report))
        self._recovered.set()

    async def _look(self) -> None:
        """Which processes there are: the only proof that a model's memory is free (rule 1)."""
        if not self._census.due(self._in_motion()):
            return
        applied = dict(self._applied)  # a look counts for targets that were in force before it
        ingresses = set(self._ingresses)
        known = list(self._reports)  # one that reports from here on may be too new for the survey
        running = await self._census.replicas()
        for actor in [a for a in known if a not in self._census.seen]:
            await self._gone(actor)
        for actor in [a for a in self._unheard if a not in self._census.seen]:
            self._handle(ev.Died(self._unheard.pop(actor), actor, ENDED))
        for ingress in ingresses - self._census.ingresses - {""}:
            self._handle(ev.IngressGone(ingress))
        for model, (_, generation) in list(self._grants.items()):
            # The policy knows nothing of a model that is no longer configured: Ray ends it.
            if applied.get(model) == generation or self._config.model(model) is None:
                actors = tuple(running.get(model, ()))
                self._handle(ev.Running(model, generation, actors))

    async def _gone(self, actor: str) -> None:
        """The process of a replica has ended. Why is asked only where it was to run: else it was
        drained, or had not been let in."""
        self._may_load.discard(actor)
        self._doubted.discard(actor)
        handle, report = self._actors.pop(actor, None), self._reports.pop(actor, None)
        if report is not None:
            granted = self._grants.get(report.model, (0, 0))[0]
            reason = await self._reason(report, handle) if granted else ENDED
            self._handle(ev.Died(report.model, actor, reason))

    async def _reason(self, dead: ReplicaReport, handle: Any) -> str:
        """Why a replica's process has ended."""
        looks = [r.memory for r in self._reports.values() if r.memory is not None]
        return await reason(handle, dead.memory, [*looks, look(here())])

    async def _find(self, actor: str) -> None:
        """Keeps a handle: once a process has ended, Ray tells by no other way why."""
        with suppress(ValueError):
            self._actors[actor] = await asyncio.to_thread(ray.get_actor, actor, namespace="serve")

    async def _count_nodes(self) -> None:
        """Nodes come and go, and their memory with them."""
        if time.monotonic() - self._counted < NODES_S:
            return
        self._counted = time.monotonic()
        await asyncio.to_thread(self._gpus.look)
        now = await asyncio.to_thread(capacity, self._config, self._gpus.known)
        if now and now != self._capacity:
            if left := left_behind(self._config, self._capacity, now):
                log.warning("GPUs have joined, but these models were deployed to run without: %s. "
                            "Where that is not meant, set num_gpus, or deploy again.",
                            ", ".join(left))  # fmt: skip
            self._capacity = now
            self._handle(ev.Capacity(now))

    def _without_policy(self) -> None:
        """Fails loads that nobody will ever carry out, with the remedy."""
        if self._asked is not None or time.monotonic() - self._born < UNAPPLIED_S:
            return
        for model, (replicas, _) in list(self._grants.items()):
            if replicas:
                remedy = "the application has no autoscaling_policy; `llm-serve check` tells more"
                self._handle(ev.Broken(model, f"{model}: none", remedy))

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
                self._end(replica)
            case fx.Forgotten(ingress):
                self._ingresses.discard(ingress)
                for ticket in self._asked_by.pop(ingress, set()):
                    if (answer := self._answers.pop(ticket, None)) is not None:
                        answer.cancel()
            case fx.Kill(model):
                for report in [r for r in self._reports.values() if r.model == model]:
                    log.warning("%s did not drain in time: ending %s", model, report.actor)
                    self._end(report.actor)
            case _:
                answer = self._answers.get(effect.ticket)
                if answer is not None and not answer.done():
                    answer.set_result(effect)

    def _end(self, actor: str) -> None:
        with suppress(ValueError):
            ray.kill(ray.get_actor(actor, namespace="serve"))

    def _publish(self, snapshot: ServerStatus) -> None:
        self._published = time.monotonic()
        self._view = RoutingView(snapshot)
        news, self._news = self._news, asyncio.Event()
        news.set()

    def _event(self, report: ReplicaReport) -> ev.Event:
        if report.state == "waiting":
            return ev.Asks(report.model, report.actor, report.bins)
        if report.state == "failed":
            return ev.Broken(report.model, report.actor, report.error or "it failed to load")
        if report.state == "ready":
            footprint = report.info.footprint_bytes if report.info else 0
            return ev.Up(
                report.model, report.actor, footprint, report.load_s, report.bins, report.info
            )
        stage = report.progress.stage if report.progress else "starting"
        fraction = report.progress.fraction if report.progress else None
        return ev.Progress(report.model, report.actor, stage, fraction, report.estimate)

    async def _make_scheduler(self) -> Scheduler:
        """In a thread: it reads files, and a slow disk must stop nobody."""
        config, gpus = self._config, dict(self._gpus.known)
        infos = dict(self._infos)
        # Neither an ingress nor the policy may take what this one says for what it has heard of an
        # earlier one.
        counts_from = time.time_ns() // 1000

        def make() -> tuple[Scheduler, dict[str, int]]:
            bins = capacity(config, gpus)
            known = self._measurements.known(config.models)
            return scheduler_for(config, bins, known, infos, counts_from), bins

        made, bins = await asyncio.get_running_loop().run_in_executor(self._files, make)
        self._capacity = bins
        return made


def _observed(model: str, actor: str, report: ReplicaReport | None) -> ev.Observed | None:
    """What a director that begins is told of a replica; None for one that holds nothing yet."""
    if report is None:  # it may be busy, and must not be ended for that
        return ev.Observed(model, actor, "loading")
    info = report.info
    footprint = info.footprint_bytes if info else None
    match report.state:
        case "waiting":
            return None
        case "failed":
            return ev.Observed(model, actor, "draining", footprint, bins=report.bins, info=info)
        case state:
            return ev.Observed(model, actor, state, footprint, bins=report.bins, info=info)
