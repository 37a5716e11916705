"""What the passing of time does to one model: stalled loads, overdue drains, keep-alive."""

from __future__ import annotations

from llm_serve.residency.effects import Kill
from llm_serve.residency.lifecycle import Lifecycle
from llm_serve.residency.plan.policy import Knobs
from llm_serve.residency.processes import Processes
from llm_serve.residency.state import Model, Phase
from llm_serve.residency.waiters import Emit


class Deadlines:
    """Every deadline is noticed at the next event, a `Tick` at the latest."""

    def __init__(
        self, knobs: Knobs, lifecycle: Lifecycle, processes: Processes, emit: Emit
    ) -> None:
        self._knobs = knobs
        self._life = lifecycle
        self._processes = processes
        self._emit = emit

    def meet(self, model: Model, deciding: bool, now: float) -> None:
        """`deciding`: the scheduler has recovered and does not shut down."""
        self._load(model, now)
        if model.phase is Phase.READY and now - model.phase_at > self._knobs.stable_s:
            model.failures = 0
        overdue = now - model.phase_at > self._knobs.drain_timeout_s
        if model.phase is Phase.LEAVING and overdue and not model.killed:
            model.killed = True
            self._emit(Kill(model.spec.model))
        up_or_coming = model.phase in (Phase.READY, Phase.LOADING)
        if model.pinned and not up_or_coming and model.cooldown_until <= now:
            model.wanted = deciding
        if model.phase is Phase.READY or not model.demand(now):
            model.since = model.reserved = None
        elif model.since is None:
            model.since = now
        self._keep_alive(model, now)

    def _load(self, model: Model, now: float) -> None:
        stall_s = self._knobs.load_stall_s
        if model.phase is Phase.LOADING and now - model.progress_at > stall_s:
            self._processes.fail(model, f"no progress for {stall_s:.0f} s (load_stall_s)", now)
        if model.phase is Phase.LOADING and not model.replicas:
            lost = any(b not in self._life.capacity for s in model.shares for b in s.bins)
            if lost:  # Ray would wait for a node that is gone; its turn comes again elsewhere
                self._life.leave(model, now)

    def _keep_alive(self, model: Model, now: float) -> None:
        """Rule 10: an idle model leaves though nobody waits."""
        keep_alive_s = model.spec.keep_alive_s
        keep_alive_s = self._knobs.keep_alive_s if keep_alive_s is None else keep_alive_s
        if (
            model.phase is Phase.READY
            and keep_alive_s is not None
            and not model.pinned
            and not model.in_flight
            and not model.demand(now)
            and now - model.last_used >= keep_alive_s
            and now > model.phase_at
        ):
            self._life.revoke(model, "idle", now)
