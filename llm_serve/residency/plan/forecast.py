"""When a waiting model finds room, at the latest, by what is known: the first part of its ETA.

Known are the loads that were measured, when a busy model may be told to leave (rule 5), and how
long a model took to drain the last time: 0 until it once did, and what runs may take longer.
Infinity where a load was never measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from llm_serve.residency.plan import budget
from llm_serve.residency.plan.policy import Strategy
from llm_serve.residency.state import Model


class Forecast:
    """Of one pass over the queue; told of every decision in the order in which it is made."""

    def __init__(self, residents: Iterable[Model], strategy: Strategy, now: float) -> None:
        self._strategy = strategy
        self._now = now
        self._staying: dict[str, Model] = {}
        self._going: list[tuple[set[str], float]] = []
        self._coming: list[tuple[Model, set[str], float]] = []
        for model in residents:
            self._staying[model.spec.model] = model
            if model.leaving:
                self._goes(model, model.phase_at)

    def leaves(self, victim: Model, waiter: Model | None) -> None:
        """`victim` is to make room for `waiter`, or because memory is short."""
        at = self._now if waiter is None else self._strategy.leaves_at(victim, waiter, self._now)
        self._goes(victim, at)

    def finds_room(self, model: Model, bins: Iterable[str]) -> None:
        """Once those that go have left `bins`."""
        self._comes(model, set(bins), self._gone_from(set(bins)))

    def waits_behind(
        self, model: Model, capacity: Mapping[str, int], limit: int | None = None
    ) -> None:
        """It needs the place of models that are not up yet: in the bins that are free soonest, once
        all have left them. Under a limit on the number of models, once all have left."""
        places = [set(names) for names in budget.groups(model.spec, capacity)]
        if limit is not None:
            places = [set(capacity)]
        soonest = min(((self._empty(p, model), sorted(p)) for p in places), default=(math.inf, []))
        self._comes(model, set(soonest[1]), soonest[0])

    def _goes(self, model: Model, at: float) -> None:
        del self._staying[model.spec.model]
        gone = max(self._now, at + (model.drain_s or 0.0))
        self._going.append((set(budget.held(model)), gone))

    def _comes(self, model: Model, bins: set[str], at: float) -> None:
        model.room_at = at
        self._coming.append(
            (model, bins, at + (math.inf if model.load_s is None else model.load_s))
        )

    def _gone_from(self, bins: set[str]) -> float:
        return max((at for held, at in self._going if held & bins), default=self._now)

    def _empty(self, bins: set[str], waiter: Model) -> float:
        """When all that are in `bins`, or come there before `waiter`, have left."""
        leaves_at, now = self._strategy.leaves_at, self._now
        latest = self._gone_from(bins)
        for model in self._staying.values():
            if not model.pinned and any(not bins.isdisjoint(s.bins) for s in model.shares):
                latest = max(latest, leaves_at(model, waiter, now) + (model.drain_s or 0.0))
        for model, there, up_at in self._coming:
            if there & bins and not model.pinned:
                at = leaves_at(model, waiter, now, up_at)
                latest = max(latest, at + (model.drain_s or 0.0))
        return latest
