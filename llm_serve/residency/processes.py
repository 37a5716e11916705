"""What the replicas' processes say, and what becomes of the shares that they use.

A process holds nothing until it asked and was told to begin (`Asks`, `Begin`): one that Ray starts
beside another that still drains waits for its memory (rule 1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from llm_serve.residency import events as ev
from llm_serve.residency.effects import Begin, Displace
from llm_serve.residency.lifecycle import Lifecycle
from llm_serve.residency.plan import budget
from llm_serve.residency.plan.policy import Knobs
from llm_serve.residency.state import Applicant, Model, Phase, Share
from llm_serve.residency.waiters import Emit

ReplicaEvent = ev.Asks | ev.Progress | ev.Up | ev.Unusable | ev.Died | ev.Doubted | ev.Observed
_FOUND_AS = {"draining": Phase.LEAVING, "loading": Phase.LOADING, "ready": Phase.READY}
_ORDER = list(_FOUND_AS.values())
DISPLACE_AFTER_S = 3.0
"""What leaves a bin is gone from Ray's books before it is gone from ours."""
DISPLACED_MOST = 5
KILLED_MOST = 2
"""Processes killed in one load; the last of them is its failure (rule 6)."""


class Processes:
    """`settled(model)`: the model was up once, or has failed (rule 10)."""

    def __init__(
        self,
        models: Mapping[str, Model],
        knobs: Knobs,
        lifecycle: Lifecycle,
        emit: Emit,
        settled: Callable[[str], None],
    ) -> None:
        self._models = models
        self._knobs = knobs
        self._life = lifecycle
        self._emit = emit
        self._settled = settled

    def heard(self, model: Model, event: ReplicaEvent, now: float) -> None:
        """One event of a replica that is not known to be dead."""
        match event:
            case ev.Asks(replica=replica, bins=bins):
                since = model.applicants[replica].since if replica in model.applicants else now
                model.applicants[replica] = Applicant(bins, since)
            case ev.Died(replica=replica, reason=reason):
                self._died(model, replica, reason, now)
            case ev.Doubted(replica=replica):
                self._doubted(model, replica, now)
            case ev.Observed():
                self._observed(model, event, now)
            case _:
                self._reports(model, event, now)

    # -- permission to load --------------------------------------------------------------------

    def let_in(self, model: Model, now: float) -> None:
        """Gives the free shares of a model to processes that wait for one."""
        for replica, applicant in list(model.applicants.items()):
            if model.phase not in (Phase.LOADING, Phase.READY):
                return
            share = model.share_of(replica)
            if share is None:
                if len(model.replicas) >= len(model.shares) - model.shedding:
                    return
                share = next(s for s in model.shares if s.replica is None)
                if not self._fits(model, share, applicant.bins):
                    if now - applicant.since >= DISPLACE_AFTER_S:
                        self._displace(model, share, replica, now)
                    continue
                self._life.attach(model, replica, applicant.bins)
                if model.phase is Phase.LOADING:
                    model.progress_at = now
            del model.applicants[replica]
            self._emit(Begin(model.spec.model, replica))

    def _fits(self, model: Model, share: Share, bins: tuple[str, ...] | None) -> bool:
        """Whether a replica fits where Ray put it; one that does not say where, as it was meant."""
        capacity = self._life.capacity
        bins = budget.known(model, bins, capacity)
        if bins is None or set(bins) == set(share.bins):
            return True
        room = budget.Room(self._models.values(), capacity)
        return all(model.need(capacity[b]) <= room.free(b) + share.each.get(b, 0) for b in bins)

    def _displace(self, model: Model, share: Share, replica: str, now: float) -> None:
        model.displaced += 1
        model.replica_died(replica)
        if model.displaced >= DISPLACED_MOST:
            model.displaced = 0
            reason = (
                f"Ray started it {DISPLACED_MOST} times on a node or accelerator without room for "
                "it; free memory there, or lower footprint_gb"
            )
            self._lost(model, share, reason, now)
            return
        self._emit(Displace(model.spec.model, replica))

    # -- loads and their ends ------------------------------------------------------------------

    def _reports(self, model: Model, event: ev.Progress | ev.Up | ev.Unusable, now: float) -> None:
        life, bins = self._life, getattr(event, "bins", None)
        if model.phase is Phase.UNLOADED:  # rule 9: it runs, so it counts
            bins = budget.known(model, bins, life.capacity) or budget.emptiest(
                model, self._models.values(), life.capacity
            )
            life.adopt(model, bins, Phase.LOADING, now)
            life.target(model, 1)
        surplus = model.share_of(event.replica) is None and None not in (
            s.replica for s in model.shares
        )
        model.applicants.pop(event.replica, None)
        if isinstance(event, ev.Up):
            model.info = event.info or model.info
            if event.footprint:
                self._measured(model, event.footprint)
        share = life.attach(model, event.replica, bins)
        model.shedding += surplus and not model.leaving
        match event:
            case ev.Up(load_s=load_s):
                came_back = share.doubted
                share.up, share.doubted, share.deaths = True, False, 0
                model.displaced = 0
                if model.phase is Phase.LOADING and came_back:
                    life.back(model, now)
                elif model.phase is Phase.LOADING:
                    life.ready(model, max(load_s, now - model.phase_at), now)
                    self._settled(event.model)
            case ev.Progress(stage=stage, fraction=fraction):
                if model.phase is Phase.LOADING:
                    model.stage, model.fraction, model.progress_at = stage, fraction, now
                if event.estimate is not None and not model.measured:
                    self._estimated(model, event.estimate, now)
            case ev.Unusable(reason=reason) if not share.broken:
                share.broken = True
                if not share.up and model.phase in (Phase.LOADING, Phase.READY):
                    self._lost(model, share, reason, now)

    def _measured(self, model: Model, footprint: int) -> None:
        model.footprint = max(footprint, model.spec.declared)
        model.measured = True

    def _estimated(self, model: Model, estimate: int, now: float) -> None:
        """Its files have come meanwhile: its shares follow, and what can never fit ends here."""
        size = max(estimate, model.spec.declared)
        if size == model.footprint:
            return
        model.footprint = size
        capacity = self._life.capacity
        for share in model.shares:
            share.each = budget.share_of(model, share.bins, capacity).each
        if model.phase is Phase.LOADING:
            reason = budget.never_fits(model, self._models.values(), capacity, None)
            if reason is not None:
                self.fail(model, reason, now)

    def _lost(self, model: Model, share: Share, reason: str, now: float) -> None:
        """A load failed: the model's, or that of one replica beside others."""
        kept = len(model.shares) - model.shedding
        if kept > 1:
            self._life.withdraw(model, share, reason, now)
        elif share not in model.shares[kept:]:  # those are to go, and nothing is expected of them
            self.fail(model, reason, now)

    def fail(self, model: Model, reason: str, now: float) -> None:
        self._settled(model.spec.model)
        self._life.fail(model, reason, now)

    def _died(self, model: Model, replica: str, reason: str, now: float) -> None:
        share = model.share_of(replica)
        was_up = share is not None and (share.up or share.doubted)
        broken = share is not None and share.broken
        model.replica_died(replica)
        if share is None or model.phase in (Phase.LEAVING, Phase.UNLOADED):
            return
        if model.phase is Phase.REVOKING:
            if not model.up:
                self._life.leave(model, now)
            elif model.shedding:
                model.last(share)
        elif model.shedding and model.replicas:  # one that was to go, whichever Ray chose
            model.last(share)
            if was_up and not model.up and model.phase is Phase.READY:
                self._life.reload(model, now)
        elif was_up:
            if model.up:
                return
            if model.applicants and not broken:  # Ray replaced it: a new configuration
                self._life.reload(model, now)
            else:
                self._life.crash(model, reason, now)
        else:
            share.deaths += 1
            if share.deaths >= KILLED_MOST:
                self._lost(model, share, reason, now)
            elif model.phase is Phase.LOADING:  # once more: Ray starts another by itself
                model.stage, model.fraction, model.progress_at = None, None, now

    def _doubted(self, model: Model, replica: str, now: float) -> None:
        share = model.share_of(replica)
        if share is None or not share.up:
            return
        share.up, share.doubted = False, True
        if model.phase is Phase.READY and not model.up:
            self._life.reload(model, now)

    # -- restarts (rule 9) ---------------------------------------------------------------------

    def _observed(self, model: Model, event: ev.Observed, now: float) -> None:
        found = _FOUND_AS[event.state]
        if event.footprint:
            self._measured(model, event.footprint)
        if event.load_s is not None:
            model.load_s = event.load_s
        model.info = event.info or model.info
        models = self._models.values()
        capacity = self._life.capacity
        bins = budget.known(model, event.bins, capacity) or budget.emptiest(model, models, capacity)
        if model.phase is Phase.UNLOADED:
            self._life.adopt(model, bins, found, now)
        share = self._life.attach(model, event.replica, bins)
        share.up = found is Phase.READY
        if found is Phase.LEAVING:
            model.shedding += 1
        else:
            model.shares.remove(share)
            model.shares.insert(0, share)
        if _ORDER.index(found) > _ORDER.index(model.phase):
            model.phase = found

    def recover(self, model: Model) -> None:
        """All that runs was observed: its targets are those it runs with."""
        if model.phase in (Phase.LEAVING, Phase.UNLOADED):
            model.shedding = 0
            self._life.target(model, 0)
            return
        most = model.spec.max_replicas
        model.shedding = max(model.shedding, len(model.shares) - most)
        self._life.target(model, len(model.shares) - model.shedding)
        if model.phase is Phase.READY:
            self._settled(model.spec.model)
