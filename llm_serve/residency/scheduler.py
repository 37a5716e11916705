"""The residency scheduler: one event in, effects out, nothing else. `DESIGN.md` states the rules.

It holds no clock, no lock, no thread and no promise: the caller passes the time with each event
and calls from one place at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from llm_serve.progress import ModelInfo
from llm_serve.residency import events as ev
from llm_serve.residency import view
from llm_serve.residency.deadlines import Deadlines
from llm_serve.residency.effects import (
    Admitted,
    Declined,
    Done,
    Effect,
    Failed,
    Forgotten,
    Publish,
)
from llm_serve.residency.ingresses import Ingresses
from llm_serve.residency.lifecycle import Lifecycle
from llm_serve.residency.plan import budget, replicas, turns
from llm_serve.residency.plan.policy import Knobs, Strategy, Turns
from llm_serve.residency.processes import Processes, ReplicaEvent
from llm_serve.residency.state import Measurement, Model, ModelSpec, Phase, Ticket
from llm_serve.residency.waiters import Waiters
from llm_serve.status import ServerStatus


class Scheduler:
    """Decides which models are resident.

    `capacity`: bytes that models may use, by bin. `known`: what `Measured` effects said in an
    earlier life, `infos` what its models were shown with. Versions and generations count from
    `counts_from`, which must be above those of that life. Until `Recovered` it only listens (rule
    9).
    """

    def __init__(
        self,
        models: Iterable[ModelSpec],
        capacity: Mapping[str, int],
        knobs: Knobs | None = None,
        *,
        strategy: Strategy | None = None,
        known: Mapping[str, Measurement] | None = None,
        infos: Mapping[str, ModelInfo] | None = None,
        counts_from: int = 1,
    ) -> None:
        self.knobs = knobs or Knobs()
        self.strategy: Strategy = strategy or Turns(self.knobs)
        self.models: dict[str, Model] = {}
        self._counts_from = counts_from
        for spec in models:
            measured = (known or {}).get(spec.model)
            was = measured or Measurement(spec.footprint, spec.load_s)
            size = max(was.footprint, spec.declared)
            model = self.models[spec.model] = self._model(spec, size, was.load_s)
            model.measured = measured is not None
            model.info = (infos or {}).get(spec.model)
        self._effects: list[Effect] = []
        self.ingresses = Ingresses()
        self.waiters = Waiters(self.knobs, self._effects.append)
        self.lifecycle = Lifecycle(self.knobs, self.waiters, self._effects.append)
        self.lifecycle.capacity = dict(capacity)
        self.lifecycle.version = counts_from - 2
        self._processes = Processes(
            self.models,
            self.knobs,
            self.lifecycle,
            self._effects.append,
            lambda name: self._starting.discard(name),
        )
        self._deadlines = Deadlines(
            self.knobs, self.lifecycle, self._processes, self._effects.append
        )
        self._starting = {s.spec.model for s in self.models.values() if s.spec.preload or s.pinned}
        self._recovered = False
        self._stopping = False
        self._now = 0.0
        self._acks_trusted_from = 0.0
        self.snapshot = self._picture()
        self.lifecycle.version += 1

    def _model(self, spec: ModelSpec, footprint: int, load_s: float | None) -> Model:
        return Model(spec, footprint, load_s, generation=self._counts_from - 1)

    def handle(self, event: ev.Event, now: float) -> list[Effect]:
        """Takes one event in and returns what is to be done, in this order.

        `now`: seconds of a monotonic clock; a value below an earlier one counts as that one.
        Never raises for an event: what is late, doubled or unknown changes nothing.
        """
        self._now = max(now, self._now)
        self._apply(event, self._now)
        self._settle(self._now)
        effects = list(self._effects)
        self._effects.clear()
        return effects

    # -- events ------------------------------------------------------------------------------

    def _apply(self, event: ev.Event, now: float) -> None:
        match event:
            case ev.Request():
                self._request(event, now)
            case ev.Cancel(ticket):
                self.waiters.leave(ticket)
            case ev.Usage():
                self._usage(event, now)
            case ev.IngressGone(ingress):
                self._forget(ingress, now)
            case (
                ev.Asks()
                | ev.Progress()
                | ev.Up()
                | ev.Unusable()
                | ev.Died()
                | ev.Doubted()
                | ev.Observed()
            ):
                self._replica(event, now)
            case ev.Running():
                self._running(event, now)
            case ev.Recovered():
                self._recover(now)
            case ev.Capacity(bins):
                self.lifecycle.capacity = dict(bins)
                for model in self.models.values():
                    for share in model.shares:
                        share.each |= budget.share_of(
                            model, tuple(b for b in share.bins if b in bins), bins
                        ).each
            case ev.Load():
                self._request(ev.Request(event.ticket, event.model, ""), now)
                if event.ticket in self.waiters:
                    self.models[event.model].wanted = True
            case ev.Unload():
                self._unload(event, now)
            case ev.Shutdown():
                self._stopping = True
                for model in self.models.values():
                    model.wanted = False
                    self.waiters.refuse(model, "the server is shutting down")
            case ev.Tick():
                pass

    def _request(self, event: ev.Request, now: float) -> None:
        model = self.models.get(event.model)
        if event.ticket in self.waiters:
            return
        if event.ingress:
            self.ingresses.hear(event.ingress, now)
        if model is None or model.stranger:
            self._effects.append(
                Failed(event.ticket, event.model, "no such model is configured", 60)
            )
            return
        if self._stopping:
            self._refuse(event, "the server is shutting down")
            return
        if model.phase is Phase.READY:
            model.last_used = now
            model.used_since_ready = True
            self._effects.append(Admitted(event.ticket, event.model))
            return
        if model.phase is not Phase.LOADING and model.cooldown_until > now:
            left = max(1, round(model.cooldown_until - now))
            reason = model.last_error or "it failed to load"
            self._effects.append(Failed(event.ticket, event.model, reason, left))
            return
        pending = sum(m.queued_for_load(now) for m in self.models.values())
        coalesces = model.phase is Phase.LOADING or model.demand(now)
        if not coalesces and pending >= self.knobs.max_pending_switches:
            self._refuse(event, f"{pending} models already wait for their turn; try again later")
            return
        until = now if event.hold_s is None else now + event.hold_s
        self.waiters.join(
            model, event.ticket, Ticket(event.ingress, until, event.hold_s is not None)
        )

    def _refuse(self, event: ev.Request | ev.Unload, reason: str) -> None:
        self._effects.append(Declined(event.ticket, event.model, reason))

    def _usage(self, event: ev.Usage, now: float) -> None:
        names = self.ingresses.report(event, now)
        for name, use in event.uses.items():
            model = self.models.get(name)
            if model is not None and now - use.idle_s >= model.ready_at:
                model.last_used = max(model.last_used, now - use.idle_s)
                model.used_since_ready = True
        self._count(names, now)

    def _count(self, names: Iterable[str], now: float) -> None:
        for model in (self.models[n] for n in names if n in self.models):
            model.in_flight, model.queued = self.ingresses.counts(model.spec.model)
            if model.in_flight:
                model.last_used = now

    def _forget(self, ingress: str, now: float) -> None:
        """An ingress is gone: so are its clients, and what it had in flight (rules 3, 7)."""
        self._count(self.ingresses.remove(ingress), now)
        self.waiters.leave_with(ingress)
        self._effects.append(Forgotten(ingress))

    def _replica(self, event: ReplicaEvent, now: float) -> None:
        """Before `Recovered` only what is observed counts, and who asks (rule 9)."""
        if isinstance(event, ev.Observed) == self._recovered and not isinstance(event, ev.Asks):
            return
        model = self.models.get(event.model)
        if model is None and isinstance(event, ev.Observed):
            model = self.models[event.model] = self._model(ModelSpec(event.model, 0), 0, None)
            model.stranger = True
            event = replace(event, state="draining")
        if model is not None and event.replica not in model.dead:
            self._processes.heard(model, event, now)

    def _running(self, event: ev.Running, now: float) -> None:
        model = self.models.get(event.model)
        if model is None or event.generation != model.generation:
            return
        if model.phase is Phase.LEAVING and not event.replicas:
            self.lifecycle.gone(model, now)
            if model.stranger:
                del self.models[event.model]
        elif model.phase is Phase.READY and event.replicas:
            replicas.trim(model, event.replicas)

    def _recover(self, now: float) -> None:
        self._recovered = True
        if any(m.shares for m in self.models.values()):
            # Ingresses of the earlier life may still send and have not reported here yet.
            self._acks_trusted_from = now + self.knobs.ingress_timeout_s
        for model in self.models.values():
            if model.phase is Phase.UNLOADED:
                model.wanted = model.wanted or model.spec.preload
            self._processes.recover(model)

    def _unload(self, event: ev.Unload, now: float) -> None:
        model = self.models.get(event.model)
        if model is not None and model.pinned:
            self._refuse(event, "the model is pinned; unpin it first")
            return
        if model is not None:
            model.wanted = False
            self.waiters.refuse(model, "an operator unloaded the model")
            if model.phase is Phase.READY:
                self.lifecycle.revoke(model, "told", now)
            elif model.phase is Phase.REVOKING:
                model.revoked = "told"
            elif model.phase is Phase.LOADING:
                self.lifecycle.leave(model, now)
        self._effects.append(Done(event.ticket, event.model))

    # -- what follows from time and state ----------------------------------------------------

    def _settle(self, now: float) -> None:
        for ingress in self.ingresses.silent(now, self.knobs.ingress_timeout_s):
            self._forget(ingress, now)
        models = list(self.models.values())
        for model in models:
            self._deadlines.meet(model, self._recovered and not self._stopping, now)
        if self._recovered and not self._stopping:
            self._take_turns(models, now)
            for model in models:
                self._processes.let_in(model, now)
        for model in models:
            if model.phase is Phase.REVOKING and self._all_acknowledged(model, now):
                self.lifecycle.leave(model, now)
        self._publish()
        self.waiters.answer(models, self._queue(), now)

    def _take_turns(self, models: list[Model], now: float) -> None:
        """Starts whose turn it is and asks others to leave (rules 1, 5, 7)."""
        life, queue = self.lifecycle, self._queue()
        plan = turns.take(models, queue, life.capacity, self.strategy, self.knobs, now)
        if plan.evict or plan.wait:
            if replicas.shed(models, life):
                plan = turns.take(models, queue, life.capacity, self.strategy, self.knobs, now)
        elif not queue:
            replicas.grow(models, life.capacity, life, now)
        for victim in plan.evict + plan.relieve:
            if victim.phase is Phase.LOADING:
                life.leave(victim, now)  # rule 7; nothing was sent to it
            else:
                life.revoke(victim, "told" if victim in plan.relieve else "turn", now)
        for model, bins in plan.start:
            life.load(model, bins, now)
        for model in plan.stuck:
            reason = budget.never_fits(model, models, life.capacity, self.knobs.max_resident)
            if reason is not None:
                self._starting.discard(model.spec.model)
                life.cool_down(model, reason, self.knobs.cooldown_s, now)
        self._rescind(models, now)

    def _rescind(self, models: list[Model], now: float) -> None:
        """A model that was asked to leave may stay if nobody else waits any more."""
        leaving = [m for m in models if m.phase is Phase.REVOKING and m.revoked != "told"]
        if leaving:
            queue = self._queue()
            for model in leaving:
                others = any(m is not model for m in queue)
                untouched = model.revoked == "turn" and model.phase_at < now
                if not others and (untouched or model.demand(now)):
                    self.lifecycle.rescind(model, now)

    def _all_acknowledged(self, model: Model, now: float) -> bool:
        """Rule 8: whether no ingress sends to the model any more."""
        if now - model.phase_at >= self.knobs.ack_timeout_s:
            return True
        return now >= self._acks_trusted_from and self.ingresses.acknowledged(model.revoked_version)

    def _queue(self) -> list[Model]:
        waiting = (m for m in self.models.values() if m.queued_for_load(self._now))
        return self.strategy.order(waiting, self._now)

    def _publish(self) -> None:
        """A new version whenever anything but the passing of time changed."""
        picture = self._picture()
        if picture != self.snapshot or self.snapshot.version < self._counts_from:
            self.lifecycle.version = picture.version
            self.snapshot = picture
            self._effects.append(Publish(picture))

    def _picture(self) -> ServerStatus:
        return view.snapshot(
            self.lifecycle.version + 1,
            list(self.models.values()),
            self._queue(),
            starting=not self._recovered or bool(self._starting),
            stopping=self._stopping,
            now=self._now,
        )
