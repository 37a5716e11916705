"""How much of a model runs and waits, over all ingresses, and how long a refused one stays away."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from deployments.app.messages import SILENT_S
from llm_serve.config import ModelConfig
from llm_serve.errors import QueueFull
from llm_serve.residency import events as ev

_WINDOW = 64
_FRESH_S = 0.02
_NOBODY = ev.Use(0)


class Admission:
    """Counts the sequences of one model in this ingress, and knows of those in the others.

    Ray Serve's handle queue holds those who wait. Its own bound counts a request that is being
    assigned as queued, so a burst on an idle model would be refused while places are free; this
    count is exact, and Ray's bound stands behind it. The other ingresses' counts come with the
    director's answer to each usage report; an ingress that reports no more is no longer in them.
    """

    def __init__(self, model: ModelConfig, ingresses: int = 1) -> None:
        self.model = model
        self.replicas = 0
        """Those that are up."""
        self.taken = 0
        """Sequences that have a place: they run, wait in the handle's queue, or for the load."""
        self.inflight = 0
        """Those of them that were sent to the model."""
        self._ingresses = ingresses
        self._others = _NOBODY
        self._heard = -math.inf
        self._used = 0.0
        self._busy_s = 0.0
        """How long there was work, up to the last coming or going."""
        self._ends: deque[tuple[float, int]] = deque([(0.0, 0)], maxlen=_WINDOW)
        """When the latest answers ended, by the clock that runs while there is work (a pause
        between two bursts says nothing of the pace), and the sequences of each."""

    @property
    def capacity(self) -> int:
        """Sequences that run at the same time."""
        return max(1, self.replicas) * self.model.max_running

    @property
    def running(self) -> int:
        """Of all ingresses, as is `queued`."""
        others = self.others
        return min(self.inflight + others.in_flight + others.queued, self.capacity)

    @property
    def queued(self) -> int:
        others = self.others
        return self.taken + others.in_flight + others.queued + others.held - self.running

    @property
    def others(self) -> ev.Use:
        """What the other ingresses have; nothing where the director has not said so for long."""
        return self._others if time.monotonic() - self._heard < SILENT_S else _NOBODY

    @property
    def idle_s(self) -> float:
        """Seconds since a request last came or ended."""
        return time.monotonic() - self._used

    def use(self) -> ev.Use:
        """This ingress's own, for its report. Who waits for the load is no work of the model."""
        running = min(self.inflight, self.capacity)
        held = self.taken - self.inflight
        return ev.Use(running, self.inflight - running, self.idle_s, held)

    def hear(self, others: ev.Use | None) -> None:
        """What the other ingresses have, as of now."""
        self._others = others or _NOBODY
        self._heard = time.monotonic()

    @property
    def must_report(self) -> bool:
        """Whether the others should hear of this ingress at once, and it of them: where it has more
        than its share of the places, or what it knows is older than 20 ms."""
        if self._ingresses == 1:
            return False
        share = (self.capacity + self.model.max_queued) / self._ingresses
        return self.taken > share or time.monotonic() - self._heard > _FRESH_S

    @contextmanager
    def place(self, sequences: int) -> Iterator[None]:
        """Places for one request. Raises QueueFull."""
        if self.running + self.queued + sequences > self.capacity + self.model.max_queued:
            raise self.full()
        self.taken += sequences
        try:
            yield
        finally:
            self.taken -= sequences

    @contextmanager
    def sent(self, sequences: int) -> Iterator[None]:
        """While the model works on them, or they wait in its handle's queue."""
        self._count(sequences)
        try:
            yield
        finally:
            self._count(-sequences)
            self._ends.append((self._busy_s, sequences))

    def _count(self, change: int) -> None:
        now = time.monotonic()
        self._busy_s = self._busy_at(now)
        self._used = now
        self.inflight += change

    def _busy_at(self, now: float) -> float:
        return self._busy_s + (now - self._used if self.inflight else 0.0)

    def full(self) -> QueueFull:
        return QueueFull(
            f"{self.queued} requests wait for {self.model.id}, and max_queued is "
            f"{self.model.max_queued}; try again later.",
            retry_after_s=self.retry_after_s(time.monotonic()),
        )

    def retry_after_s(self, now: float) -> int:
        """Seconds until those who wait here now are through, at the pace of the latest answers."""
        if len(self._ends) == 1:
            return 5  # nothing has been answered yet, so there is no pace to go by
        ended = sum(sequences for _, sequences in list(self._ends)[1:])
        pace = ended / max(self._busy_at(now) - self._ends[0][0], 0.001)
        return math.ceil(max(0, self.taken - self.capacity) / pace)
