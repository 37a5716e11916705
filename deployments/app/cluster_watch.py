"""Ray's facts, as events of the residency scheduler.

Which processes there are and why they ended, what replicas report of themselves, and how much
memory the nodes have. Nothing is decided here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import ray
from ray.util import list_named_actors

from deployments.app.messages import ReplicaReport
from deployments.app.names import ingress_replica, replica_model
from deployments.cluster.deaths import ENDED, here, look, reason
from deployments.cluster.nodes import GpuMemory, capacity, left_behind
from llm_serve.config import Config
from llm_serve.residency import events as ev

log = logging.getLogger("ray.serve")
NODES_S = 2.0

_IN_MOTION_S = 0.1
_AT_REST_S = 1.0


class ReplicaCensus:
    """Asks the cluster, more often while a model loads or leaves.

    An actor is on the list from the moment it is asked for until its process has ended, also while
    it starts, drains, or was killed from outside; nothing else tells all of these.
    """

    def __init__(self, app: str) -> None:
        self._app = app
        self._last = 0.0
        self.seen: set[str] = set()
        self.ingresses: set[str] = set()

    def hurry(self) -> None:
        """The next look is due at once."""
        self._last = 0.0

    def due(self, in_motion: bool) -> bool:
        period = _IN_MOTION_S if in_motion else _AT_REST_S
        return time.monotonic() - self._last >= period

    async def replicas(self) -> dict[str, list[str]]:
        """The actors of every model's replicas, by model."""
        self._last = time.monotonic()
        actors = await asyncio.to_thread(list_named_actors, all_namespaces=True)
        found: dict[str, list[str]] = {}
        self.seen, self.ingresses = set(), set()
        for actor in actors:
            ingress = ingress_replica(actor["name"], self._app)
            if ingress is not None:
                self.ingresses.add(ingress)
            model = replica_model(actor["name"], self._app)
            if model is not None:
                found.setdefault(model, []).append(actor["name"])
                self.seen.add(actor["name"])
        return found


class ClusterWatch:
    """What one director knows of the processes and nodes of its application."""

    def __init__(self, app: str) -> None:
        self._census = ReplicaCensus(app)
        self._reports: dict[str, ReplicaReport] = {}
        """The last report of every replica that is not known to be gone, by its actor."""
        self._unheard: dict[str, str] = {}
        """Replicas that ran when the director began and have not reported since, with their
        models."""
        self._doubted: set[str] = set()
        """Replicas that somebody took for dead and that have not reported since."""
        self._actors: dict[str, Any] = {}
        self._running: dict[str, list[str]] = {}
        self._gpus = GpuMemory()
        self._bins: dict[str, int] = {}
        self._counted = time.monotonic()

    # -- what replicas say ---------------------------------------------------------------------

    def heard(self, report: ReplicaReport) -> ev.Event | None:
        """Takes a replica's report; None where it says nothing new."""
        before = self._reports.get(report.actor)
        self._reports[report.actor] = report
        self._unheard.pop(report.actor, None)
        if before is None:
            self._finding = asyncio.get_running_loop().create_task(self._find(report.actor))
        if before == report and report.actor not in self._doubted:
            return None
        self._doubted.discard(report.actor)
        return _event(report)

    def doubt(self, process: str) -> list[ev.Event]:
        """Somebody took a process for dead; the next look, which is due at once, tells."""
        dead = [r for r in self._reports.values() if r.process == process]
        for report in dead:
            self._doubted.add(report.actor)
            self._census.hurry()
        return [ev.Doubted(report.model, report.actor) for report in dead]

    async def _find(self, actor: str) -> None:
        """Keeps a handle: once a process has ended, Ray tells by no other way why."""
        with suppress(ValueError):
            self._actors[actor] = await asyncio.to_thread(ray.get_actor, actor, namespace="serve")

    # -- which processes there are -------------------------------------------------------------

    async def recover(self, patience_s: float, pause_s: float) -> list[ev.Event]:
        """What a director that begins is told: everything that runs, once all of it was heard or
        `patience_s` are over."""
        deadline = time.monotonic() + patience_s
        while True:
            running = await self._census.replicas()
            if self._census.seen <= self._reports.keys() or time.monotonic() > deadline:
                break
            await asyncio.sleep(pause_s)
        models = {actor: model for model, actors in running.items() for actor in actors}
        self._unheard = {a: model for a, model in models.items() if a not in self._reports}
        found = [_observed(model, a, self._reports.get(a)) for a, model in models.items()]
        events: list[ev.Event] = [observed for observed in found if observed is not None]
        events.append(ev.Recovered())
        for report in self._reports.values():
            sized = report.state == "loading" and report.estimate is not None
            if report.state == "waiting" or report.actor not in models or sized:
                events.append(_event(report))
        return events

    def due(self, in_motion: bool) -> bool:
        """Whether it is time for the next look."""
        return self._census.due(in_motion)

    async def look(
        self, ingresses: set[str], granted: Callable[[str], int]
    ) -> AsyncIterator[ev.Event]:
        """Looks at the processes, and says which replicas and which of `ingresses` have ended.
        `granted` tells how many replicas a model may have."""
        known = list(self._reports)  # one that reports from here on may be too new for the census
        self._running = await self._census.replicas()
        for actor in [a for a in known if a not in self._census.seen]:
            self._doubted.discard(actor)
            handle, report = self._actors.pop(actor, None), self._reports.pop(actor, None)
            if report is not None:
                # Why is asked only where it was to run: else it was drained, or was not let in.
                why = await self._reason(report, handle) if granted(report.model) else ENDED
                yield ev.Died(report.model, actor, why)
        for actor in [a for a in self._unheard if a not in self._census.seen]:
            yield ev.Died(self._unheard.pop(actor), actor, ENDED)
        for ingress in ingresses - self._census.ingresses - {""}:
            yield ev.IngressGone(ingress)

    def running(self, model: str) -> tuple[str, ...]:
        """The replicas of a model by the last look: the only proof that its memory is free."""
        return tuple(self._running.get(model, ()))

    async def _reason(self, dead: ReplicaReport, handle: Any) -> str:
        looks = [r.memory for r in self._reports.values() if r.memory is not None]
        return await reason(handle, dead.memory, [*looks, look(here())])

    def end(self, actor: str) -> None:
        with suppress(ValueError):
            ray.kill(ray.get_actor(actor, namespace="serve"))

    def end_all(self, model: str) -> None:
        for report in [r for r in self._reports.values() if r.model == model]:
            log.warning("%s did not drain in time: ending %s", model, report.actor)
            self.end(report.actor)

    # -- nodes ---------------------------------------------------------------------------------

    def count(self, config: Config) -> dict[str, int]:
        """The bins that there are now, for a new scheduler. Blocks."""
        self._bins = capacity(config, dict(self._gpus.known))
        return self._bins

    async def nodes(self, config: Config) -> ev.Capacity | None:
        """Nodes come and go, and their memory with them; None where nothing has changed."""
        if time.monotonic() - self._counted < NODES_S:
            return None
        self._counted = time.monotonic()
        await asyncio.to_thread(self._gpus.look)
        now = await asyncio.to_thread(capacity, config, self._gpus.known)
        if not now or now == self._bins:
            return None
        if left := left_behind(config, self._bins, now):
            log.warning("GPUs have joined, but these models were deployed to run without: %s. "
                        "Where that is not meant, set num_gpus, or deploy again.",
                        ", ".join(left))  # fmt: skip
        self._bins = now
        return ev.Capacity(now)


def _event(report: ReplicaReport) -> ev.Event:
    model, actor, info = report.model, report.actor, report.info
    match report.state:
        case "waiting":
            return ev.Asks(model, actor, report.bins)
        case "failed":
            return ev.Unusable(model, actor, report.error or "it failed to load")
        case "ready":
            footprint = info.footprint_bytes if info else 0
            return ev.Up(model, actor, footprint, report.load_s, report.bins, info)
        case "loading":
            stage = report.progress.stage if report.progress else "starting"
            fraction = report.progress.fraction if report.progress else None
            return ev.Progress(model, actor, stage, fraction, report.estimate)


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
