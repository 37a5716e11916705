"""The choices: whose turn is next, who may be asked to leave, who is the cheapest to lose."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Protocol

from llm_serve.residency.state import Model, Phase


@dataclass(frozen=True, slots=True)
class Knobs:
    """Everything an operator may turn. Seconds and counts; raises ValueError for a bad one."""

    max_resident: int | None = None
    """Models that hold memory at the same time; None: as many as fit."""
    min_residency_s: float = 30.0
    """A model with work keeps its place at least so long (rule 5)."""
    max_wait_s: float = 120.0
    """After so long a waiting model takes the place of a busy one (rule 5)."""
    keep_alive_s: float | None = None
    """An idle model leaves after so long even if nobody waits; None: it stays (rule 10)."""
    max_pending_switches: int = 32
    """Models that may wait for a turn; requests for more get 409."""

    idle_after_s: float = 1.0
    """Without a request for so long a model counts as idle; covers late usage reports."""
    idle_loads: float = 0.5
    """Nor does it count as idle before so many times what it takes to load: what is dear to bring
    back waits longer for its next request."""
    patience_loads: float = 1.0
    """A waiter takes a busy model's place after so many times what the switch costs, at the latest
    after `max_wait_s`."""
    settle_s: float = 1.0
    """A model that just came up is left alone so long, so that its waiters reach it."""
    cooldown_s: float = 10.0
    """After a failed load; doubles with each further failure (rule 6)."""
    cooldown_max_s: float = 600.0
    stable_s: float = 60.0
    """Up for so long, a model's earlier failures are forgotten."""
    drain_timeout_s: float = 660.0
    """Above the inference timeout; then what is left is killed (rule 2)."""
    ack_timeout_s: float = 2.0
    """How long an ingress may take to acknowledge that a model leaves (rule 8)."""
    ingress_timeout_s: float = 10.0
    """An ingress that has not reported for so long no longer counts."""
    load_stall_s: float = 900.0
    """A load without any progress for so long has failed."""
    lease_grace_s: float = 10.0
    """How much later than told a client may come back and still count as waiting."""
    max_retry_after_s: float = 15.0
    default_load_s: float = 20.0
    """What a load is thought to take before one was measured; never shown to clients."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and not value >= 0:
                raise ValueError(f"{field.name} is {value}; it must not be negative")
        if self.max_resident == 0:
            raise ValueError("max_resident is 0; no model could ever be loaded")
        if self.min_residency_s > self.max_wait_s:
            raise ValueError(
                f"min_residency_s ({self.min_residency_s}) is above max_wait_s "
                f"({self.max_wait_s}); no waiting model could get its turn in time"
            )


class Strategy(Protocol):
    """What `turns.take` asks. `bench/residency_sim.py` puts FIFO and LRU in its place."""

    def order(self, queue: Iterable[Model], now: float) -> list[Model]:
        """The waiting models, the next in line first."""
        ...

    def may_leave(self, victim: Model, waiter: Model | None, now: float) -> bool:
        """Whether `victim`, never a pinned one, may be told to leave for `waiter`.

        No waiter: because memory is short.
        """
        ...

    def leaves_at(
        self, victim: Model, waiter: Model, now: float, up_at: float | None = None
    ) -> float:
        """When `victim` may be told to leave for `waiter` at the latest, as far as is known.

        `up_at`: when it will be up, if it does not even load yet. Infinity: nobody knows.
        """
        ...

    def worth(self, victim: Model, now: float) -> float:
        """What is lost when it leaves; the least goes first. Any unit."""
        ...


class Turns:
    """The strategy of this server: collated turns with a bound on waiting."""

    def __init__(self, knobs: Knobs) -> None:
        self.knobs = knobs

    def load_s(self, model: Model) -> float:
        return self.knobs.default_load_s if model.load_s is None else model.load_s

    def order(self, queue: Iterable[Model], now: float) -> list[Model]:
        return sorted(queue, key=lambda m: (m.since or 0.0, m.spec.model))

    def idle_after(self, model: Model) -> float:
        return max(self.knobs.idle_after_s, self.knobs.idle_loads * self.load_s(model))

    def busy(self, model: Model, now: float) -> bool:
        return (
            model.in_flight > 0
            or model.queued > 0
            or now - model.last_used < self.idle_after(model)
            or (not model.used_since_ready and model.lease_until > now)
        )

    def may_leave(self, victim: Model, waiter: Model | None, now: float) -> bool:
        if victim.phase is Phase.LOADING:
            # Rule 7. Who was taken for dead may have work, and says so within seconds if it lives.
            doubted = any(s.doubted for s in victim.shares)
            fresh = now - victim.phase_at < self.knobs.ingress_timeout_s
            return not victim.demand(now) and not (doubted and fresh)
        up = now - victim.ready_at
        if up < self.knobs.settle_s or (not victim.used_since_ready and victim.lease_until > now):
            return False
        if not self.busy(victim, now):
            return True
        return up >= self.knobs.min_residency_s and self.patience_over(victim, waiter, now)

    def patience_over(self, victim: Model, waiter: Model | None, now: float) -> bool:
        """Rule 5: whether the wait of `waiter` outweighs what switching costs both."""
        if waiter is None or waiter.since is None:
            return True
        return now - waiter.since >= self.patience(victim, waiter)

    def patience(self, victim: Model, waiter: Model) -> float:
        cost = self.load_s(waiter) + self.load_s(victim)
        return min(self.knobs.max_wait_s, self.knobs.patience_loads * cost)

    def leaves_at(
        self, victim: Model, waiter: Model, now: float, up_at: float | None = None
    ) -> float:
        """One that has nothing to do is taken to get nothing more; one that comes up or has just
        come up, to be busy at once, since somebody waits for it."""
        if up_at is None and self.may_leave(victim, waiter, now):
            return now
        idle_at = math.inf
        if up_at is not None or victim.phase is Phase.LOADING:
            if up_at is None:
                up_at = victim.phase_at + (math.inf if victim.load_s is None else victim.load_s)
            up_at = settled = max(up_at, now)
        else:
            up_at = victim.ready_at
            settled = up_at if victim.used_since_ready else victim.lease_until
            settling = now - up_at <= self.knobs.settle_s
            if not victim.in_flight and not victim.queued and not settling:
                idle_at = victim.last_used + self.idle_after(victim)
        since = now if waiter.since is None else waiter.since
        turn_at = max(up_at + self.knobs.min_residency_s, since + self.patience(victim, waiter))
        return max(now, settled, up_at + self.knobs.settle_s, min(idle_at, turn_at))

    def worth(self, victim: Model, now: float) -> float:
        """Expected reload seconds lost per second of the memory: `load_s / idle_s`.

        Least recent use weighed by reload cost: a model idle for `idle_s` is taken to come back
        at a rate of `1 / idle_s`, and then costs `load_s`. Busy models are worth more than any
        idle one; a load that nobody waits for is worth nothing.
        """
        if victim.phase is Phase.LOADING:
            return 0.0
        idle_s = max(now - victim.last_used, 0.1)
        worth = self.load_s(victim) / idle_s
        return worth + 1e6 if self.busy(victim, now) else worth
