"""The director: the one place that knows the state of every model."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass

from llm_serve.backends.base import LoadProgress, ModelInfo
from llm_serve.status import ModelState

REPORT_PERIOD_S = 2.0
"""A replica repeats its report so often, so that a restarted director knows all again."""
_FORGET_AFTER_S = 5 * REPORT_PERIOD_S
_WATCH_S = 10.0


@dataclass(frozen=True, slots=True)
class ReplicaReport:
    """What a model's replica says of itself."""

    model: str
    replica: str
    actor: str | None
    """Ray's id of its process, which Ray names when that has died."""
    state: ModelState
    progress: LoadProgress | None = None
    error: str | None = None
    info: ModelInfo | None = None


@dataclass(frozen=True, slots=True)
class View:
    """All reports at one version; the ingress keeps the newest."""

    version: int
    reports: tuple[ReplicaReport, ...]


class Director:
    """Collects reports and hands views to whoever watches.

    It holds no truth of its own: killed, it has the same view again within REPORT_PERIOD_S.
    """

    def __init__(self) -> None:
        # A restarted director must not count from versions that watchers have seen.
        self._version = time.time_ns()
        self._reports: dict[str, ReplicaReport] = {}
        self._heard: dict[str, float] = {}
        self._changed = asyncio.Condition()
        self._sweeper = asyncio.get_running_loop().create_task(self._sweep())

    async def report(self, report: ReplicaReport) -> None:
        self._heard[report.replica] = time.monotonic()
        if self._reports.get(report.replica) != report:
            self._reports[report.replica] = report
            await self._publish()

    async def leave(self, replica: str) -> None:
        """A replica is going, and says so."""
        self._heard.pop(replica, None)
        if self._reports.pop(replica, None) is not None:
            await self._publish()

    async def bury(self, actor: str) -> None:
        """A process is dead, says one who talked to it; if it is not, its next report is near."""
        for replica in [r.replica for r in self._reports.values() if r.actor == actor]:
            await self.leave(replica)

    async def watch(self, seen: int) -> View:
        """The view once it is another than `seen`, or the same one after a while."""
        async with self._changed:
            if self._version == seen:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), _WATCH_S)
            return View(self._version, tuple(self._reports.values()))

    async def _publish(self) -> None:
        async with self._changed:
            self._version += 1
            self._changed.notify_all()

    async def _sweep(self) -> None:
        """Forgets replicas that fell silent: they died without a word."""
        while True:
            await asyncio.sleep(REPORT_PERIOD_S)
            limit = time.monotonic() - _FORGET_AFTER_S
            for replica in [r for r, heard in self._heard.items() if heard < limit]:
                await self.leave(replica)
