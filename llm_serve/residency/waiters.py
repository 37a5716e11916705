"""Who waits for what, and what each is told. Every ticket ends exactly once (rule 3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llm_serve.residency import view
from llm_serve.residency.effects import Accepted, Admitted, Declined, Effect, Expired, Failed
from llm_serve.residency.plan.policy import Knobs
from llm_serve.residency.state import Model, Ticket

Emit = Callable[[Effect], None]


class Waiters:
    """The tickets of all models, and the leases of clients that were told to come back."""

    def __init__(self, knobs: Knobs, emit: Emit) -> None:
        self._knobs = knobs
        self._emit = emit
        self._model_of: dict[str, Model] = {}

    def __contains__(self, ticket: str) -> bool:
        return ticket in self._model_of

    def join(self, model: Model, name: str, ticket: Ticket) -> None:
        """Adds a ticket to those that wait for `model` (rule 4: one load serves them all)."""
        model.tickets[name] = ticket
        self._model_of[name] = model

    def leave(self, name: str) -> None:
        """The client left; unknown tickets were answered already."""
        model = self._model_of.pop(name, None)
        if model is not None:
            del model.tickets[name]

    def leave_with(self, ingress: str) -> None:
        """Every client of a dead ingress left."""
        gone = [n for n, m in self._model_of.items() if m.tickets[n].ingress == ingress]
        for name in gone:
            self.leave(name)

    def admit(self, model: Model, now: float) -> None:
        """The model is ready: everyone goes on."""
        if model.tickets:
            model.last_used = now
            model.used_since_ready = True
        for name in self._drop(model):
            self._emit(Admitted(name, model.spec.model))

    def fail(self, model: Model, reason: str, retry_after_s: int) -> None:
        """The load failed: everyone gets the reason, nobody is expected back (rule 6)."""
        model.lease_until = 0.0
        for name in self._drop(model):
            self._emit(Failed(name, model.spec.model, reason, retry_after_s))

    def refuse(self, model: Model, reason: str) -> None:
        """An operator ended the wait."""
        model.lease_until = 0.0
        for name in self._drop(model):
            self._emit(Declined(name, model.spec.model, reason))

    def answer(self, models: Sequence[Model], queue: list[Model], now: float) -> None:
        """Sends away those that do not want to be held, or no longer."""
        for model in models if self._model_of else ():
            due = [(n, t.held) for n, t in model.tickets.items() if t.until <= now]
            if not due:
                continue
            told = view.loading(model, models, queue, now, self._knobs)
            lease = now + told.retry_after_s + self._knobs.lease_grace_s
            model.lease_until = max(model.lease_until, lease)
            for name, held in due:
                self.leave(name)
                self._emit(Expired(name, told) if held else Accepted(name, told))

    def _drop(self, model: Model) -> list[str]:
        names = list(model.tickets)
        for name in names:
            self.leave(name)
        return names
