"""How many requests of a model run and wait, and how long a refused one should stay away."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from llm_serve.config import ModelConfig
from llm_serve.errors import QueueFull

_WINDOW = 64


class Admission:
    """Counts the requests of one model in this ingress.

    Ray Serve's handle queue holds those who wait. Its own bound counts a request that is being
    assigned as queued, so a burst on an idle model would be refused while places are free; this
    count is exact, and Ray's bound stands behind it.
    """

    def __init__(self, model: ModelConfig) -> None:
        self.model = model
        self.inflight = 0
        self._used = 0.0
        self._busy_s = 0.0
        """How long there was work, up to the last coming or going."""
        self._ends: deque[float] = deque([0.0], maxlen=_WINDOW)
        """When the latest answers ended, by the clock that runs while there is work: a pause
        between two bursts says nothing of the pace."""

    @property
    def running(self) -> int:
        return min(self.inflight, self.model.max_running)

    @property
    def queued(self) -> int:
        return self.inflight - self.running

    @property
    def idle_s(self) -> float:
        """Seconds since a request last came or ended."""
        return time.monotonic() - self._used

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place for one request. Raises QueueFull."""
        if self.inflight >= self.model.max_running + self.model.max_queued:
            raise self.full()
        self._count(1)
        try:
            yield
        finally:
            self._count(-1)
            self._ends.append(self._busy_s)

    def _count(self, change: int) -> None:
        now = time.monotonic()
        self._busy_s = self._busy_at(now)
        self._used = now
        self.inflight += change

    def _busy_at(self, now: float) -> float:
        return self._busy_s + (now - self._used if self.inflight else 0.0)

    def full(self) -> QueueFull:
        return QueueFull(
            f"{self.queued} requests wait for {self.model.id}, as many as max_queued allows; "
            "try again later.",
            retry_after_s=self.retry_after_s(time.monotonic()),
        )

    def retry_after_s(self, now: float) -> int:
        """Seconds until those who wait now are through, at the pace of the latest answers."""
        if len(self._ends) == 1:
            return 5  # nothing has been answered yet, so there is no pace to go by
        pace = (len(self._ends) - 1) / max(self._busy_at(now) - self._ends[0], 0.001)
        return math.ceil(self.queued / pace)
