"""The phases of a model: every move between them, and the target that goes with it.

Nothing here chooses; `turns` and the events do.
"""

from __future__ import annotations

from collections.abc import Mapping

from llm_serve.residency.effects import Measured, Target
from llm_serve.residency.plan import budget
from llm_serve.residency.plan.policy import Knobs
from llm_serve.residency.state import Model, Phase, Revoked, Share
from llm_serve.residency.waiters import Emit, Waiters


class Lifecycle:
    """Moves models between phases. `version` is that of the last published snapshot."""

    def __init__(self, knobs: Knobs, waiters: Waiters, emit: Emit) -> None:
        self._knobs = knobs
        self._waiters = waiters
        self._emit = emit
        self.capacity: Mapping[str, int] = {}
        self.version = 0

    def target(self, model: Model, replicas: int) -> None:
        model.generation += 1
        self._emit(Target(model.spec.model, replicas, model.generation))

    def load(self, model: Model, bins: tuple[str, ...], now: float) -> None:
        """UNLOADED -> LOADING: the share is taken before anything starts (rule 1)."""
        model.shares = [budget.share_of(model, bins, self.capacity)]
        self._enter(model, Phase.LOADING, now)
        model.progress_at = now
        model.reserved = None
        self.target(model, 1)

    def ready(self, model: Model, load_s: float, now: float) -> None:
        """LOADING -> READY: all that waited go on."""
        model.load_s = load_s if model.load_s is None else (model.load_s + load_s) / 2
        model.last_error = None
        model.cooldown_until = 0.0
        model.ready_at = model.last_used = now
        model.used_since_ready = model.wanted = False
        self._enter(model, Phase.READY, now)
        self._emit(Measured(model.spec.model, model.footprint, model.load_s))
        self._waiters.admit(model, now)

    def revoke(self, model: Model, why: Revoked, now: float) -> None:
        """READY -> REVOKING: the next snapshot says so; nothing is stopped yet (rules 2, 8)."""
        self._enter(model, Phase.REVOKING, now)
        model.revoked = why
        model.revoked_version = self.version + 1
        model.lease_until = 0.0
        model.last_error = None  # of a replica that could not be added

    def rescind(self, model: Model, now: float) -> None:
        """REVOKING -> READY: nobody needs its place any more, and it was not touched."""
        if not model.up:  # taken for dead meanwhile
            self.reload(model, now)
            return
        self._enter(model, Phase.READY, now)
        model.wanted = False
        self._waiters.admit(model, now)

    def leave(self, model: Model, now: float) -> None:
        """-> LEAVING: Ray drains it; it keeps its share until it is gone (rules 1, 2)."""
        self._enter(model, Phase.LEAVING, now)
        model.killed = False
        model.shedding = 0
        self.target(model, 0)

    def gone(self, model: Model, now: float) -> None:
        """LEAVING -> UNLOADED: the share is free."""
        for replica in model.replicas:
            model.replica_died(replica)
        model.shares = []
        model.displaced = 0
        model.drain_s = now - model.phase_at
        self._enter(model, Phase.UNLOADED, now)

    def fail(self, model: Model, reason: str, now: float) -> None:
        """LOADING -> LEAVING: reason to the waiters, cooldown doubled (rule 6)."""
        model.failures += 1
        knobs = self._knobs
        cooldown = min(knobs.cooldown_max_s, knobs.cooldown_s * 2.0 ** min(model.failures - 1, 30))
        self.cool_down(model, reason, cooldown, now)
        self.leave(model, now)

    def cool_down(self, model: Model, reason: str, seconds: float, now: float) -> None:
        """Refuses the model for `seconds` and answers whoever waits."""
        model.last_error = reason
        model.cooldown_until = now + seconds
        model.wanted = False
        self._waiters.fail(model, reason, max(1, round(seconds)))

    def crash(self, model: Model, reason: str, now: float) -> None:
        """READY -> LOADING: Ray starts it again by itself; twice in a row is a failure."""
        if now - model.ready_at >= self._knobs.stable_s:
            model.failures = 0
        if model.failures:
            self.fail(model, reason, now)
            return
        model.failures = 1
        model.last_error = reason
        model.progress_at = now
        self._enter(model, Phase.LOADING, now)

    def reload(self, model: Model, now: float) -> None:
        """READY -> LOADING: none of its replicas is up, and that is nobody's failure."""
        model.progress_at = now
        self._enter(model, Phase.LOADING, now)

    def back(self, model: Model, now: float) -> None:
        """LOADING -> READY: a replica that was taken for dead reports; nothing was loaded."""
        model.wanted = False
        self._enter(model, Phase.READY, now)
        self._waiters.admit(model, now)

    def withdraw(self, model: Model, share: Share, reason: str, now: float) -> None:
        """Takes one replica's grant back: it cannot load, and the others serve on (rule 6)."""
        model.last(share)
        model.shedding += 1
        model.last_error = reason
        model.grow_from = now + self._knobs.cooldown_max_s
        self.target(model, len(model.shares) - model.shedding)

    def adopt(self, model: Model, bins: tuple[str, ...], phase: Phase, now: float) -> None:
        """UNLOADED -> `phase`: it runs although nobody here granted it (rule 9)."""
        model.shares = [budget.share_of(model, bins, self.capacity)]
        model.ready_at = model.last_used = model.progress_at = now
        model.used_since_ready = True
        self._enter(model, phase, now)

    def attach(self, model: Model, replica: str, bins: tuple[str, ...] | None) -> Share:
        """Ties a replica to a granted share, and moves that to where it really is."""
        share = model.share_of(replica)
        share = share or next((s for s in model.shares if s.replica is None), None)
        if share is None:  # it runs, so it counts
            share = Share((), {})
            model.shares.append(share)
            bins = budget.known(model, bins, self.capacity) or model.shares[0].bins
        share.replica = replica
        bins = budget.known(model, bins, self.capacity) or share.bins
        share.bins, share.each = bins, budget.share_of(model, bins, self.capacity).each
        return share

    def _enter(self, model: Model, phase: Phase, now: float) -> None:
        model.phase = phase
        model.phase_at = now
        model.stage = model.fraction = None
