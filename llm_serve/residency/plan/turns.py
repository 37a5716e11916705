"""One pass over the waiting models: who starts now, who is asked to leave for whom (rules 1, 5, 7).

Models are taken in the order of the strategy. Each finds the best bins for itself:

    START  it fits now
    SOON   it fits once those that already leave are gone
    EVICT  it fits once more models leave, and they may leave now
    LATER  it fits once models leave that may not leave yet

and keeps that room from all behind it, so a small model never slips in and starves a large one.
A model in LATER stays with its bins until something better than LATER turns up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from llm_serve.residency.plan import budget
from llm_serve.residency.plan.forecast import Forecast
from llm_serve.residency.plan.policy import Knobs, Strategy
from llm_serve.residency.state import Model, Phase


class Tier(IntEnum):
    START = 0
    SOON = 1
    EVICT = 2
    LATER = 3


@dataclass(slots=True)
class Choice:
    """Bins for a waiting model and the models that have to leave them."""

    tier: Tier
    cost: float
    spare: int
    bins: tuple[str, ...]
    victims: list[Model]

    @property
    def rank(self) -> tuple[int, float, int, tuple[str, ...]]:
        return (self.tier, self.cost, self.spare, self.bins)


@dataclass(slots=True)
class Plan:
    start: list[tuple[Model, tuple[str, ...]]] = field(default_factory=list)
    evict: list[Model] = field(default_factory=list)
    relieve: list[Model] = field(default_factory=list)
    """Leave because a bin holds more than it may, not for anybody's turn."""
    wait: list[Model] = field(default_factory=list)
    stuck: list[Model] = field(default_factory=list)
    """Waiting models for which no set of leaving models makes room."""


class Pass:
    """The state of one pass; `take` is its face."""

    def __init__(
        self, models: Iterable[Model], capacity: Mapping[str, int], strategy: Strategy, now: float
    ) -> None:
        self.residents = [m for m in models if m.shares]
        self.room = budget.Room(self.residents, capacity)
        self.strategy = strategy
        self.now = now
        self.chosen_victims: set[str] = set()
        self.plan = Plan()
        self.forecast = Forecast(self.residents, strategy, now)

    def candidates(self) -> list[Model]:
        """Who could leave at all, now or later."""
        return [
            m
            for m in self.residents
            if m.phase in (Phase.READY, Phase.LOADING)
            and m.phase_at < self.now  # whom it was just published for may still reach it (rule 8)
            and not m.pinned
            and m.spec.model not in self.chosen_victims
        ]

    def pick(
        self, shortage: dict[str, int], places: int, waiter: Model | None
    ) -> tuple[list[Model], bool] | None:
        """The cheapest models whose leaving ends `shortage` (bytes by bin) and frees `places`
        places under `max_resident`; whether all may leave now. None: no such models."""
        now, strategy = self.now, self.strategy
        ranked = sorted(
            (not strategy.may_leave(m, waiter, now), strategy.worth(m, now), m.spec.model, m)
            for m in self.candidates()
        )
        short = {name: size for name, size in shortage.items() if size > 0}
        picked: list[tuple[bool, Model]] = []
        for later, _, _, model in ranked:
            freed = budget.held(model)
            if any(short.get(name, 0) > 0 for name in freed):
                picked.append((later, model))
                short = {name: size - freed.get(name, 0) for name, size in short.items()}
        if any(size > 0 for size in short.values()):
            return None
        for item in list(reversed(picked)):  # who is not needed after all stays
            freed = budget.held(item[1])
            if all(short[name] + freed.get(name, 0) <= 0 for name in short):
                picked.remove(item)
                short = {name: size + freed.get(name, 0) for name, size in short.items()}
        chosen = {m.spec.model for _, m in picked}
        for later, _, _, model in ranked:
            if len(picked) >= places:
                break
            if model.spec.model not in chosen:
                picked.append((later, model))
        if len(picked) < places:
            return None
        return [m for _, m in picked], not any(later for later, _ in picked)

    def choose(self, model: Model, bins: tuple[str, ...], limit: int | None) -> Choice | None:
        """What it takes to load `model` into `bins`."""
        room = self.room
        need = {b: model.need(room.capacity[b]) for b in bins}
        if any(need[b] > room.capacity[b] for b in bins):
            return None
        places = 0 if limit is None else room.remaining + 1 - limit
        shortage = {b: need[b] - room.final(b) for b in bins}
        spare = sum(room.final(b) - need[b] for b in bins)
        if places <= 0 and all(s <= 0 for s in shortage.values()):
            fits = all(need[b] <= room.free(b) for b in bins)
            fits = fits and (limit is None or room.resident < limit)
            fits = fits and model.phase is Phase.UNLOADED
            return Choice(Tier.START if fits else Tier.SOON, 0.0, spare, bins, [])
        picked = self.pick(shortage, places, model)
        if picked is None:
            return None
        victims, now = picked
        cost = sum(self.strategy.worth(v, self.now) for v in victims)
        return Choice(Tier.EVICT if now else Tier.LATER, cost, spare, bins, victims)

    def best(self, model: Model, limit: int | None) -> Choice | None:
        """The best bins for `model` on any node."""
        best: Choice | None = None
        spread = model.spec.bins
        for names in budget.groups(model.spec, self.room.capacity):
            bins = tuple(names)
            if spread > 1:  # the bins that are cheapest one by one
                single = [(self.choose(model, (b,), None), b) for b in names]
                usable = sorted((c.rank, b) for c, b in single if c is not None)
                if len(usable) < spread:
                    continue
                bins = tuple(sorted(b for _, b in usable[:spread]))
            choice = self.choose(model, bins, limit)
            if choice is not None and (best is None or choice.rank < best.rank):
                best = choice
        if best is not None and best.tier is Tier.LATER and model.reserved is not None:
            known = all(b in self.room.capacity for b in model.reserved)
            best = (self.choose(model, model.reserved, limit) if known else None) or best
        return best

    def serve(self, model: Model, limit: int | None) -> None:
        """Gives `model` its turn, or keeps its room."""
        choice = self.best(model, limit)
        model.reserved = None
        if choice is None:
            self.plan.stuck.append(model)
            self.forecast.waits_behind(model, self.room.capacity, limit)
            return
        for victim in choice.victims:
            self.forecast.leaves(victim, model)
            self.chosen_victims.add(victim.spec.model)
            self.room.release(victim)
        self.forecast.finds_room(model, choice.bins if limit is None else self.room.capacity)
        share = budget.share_of(model, choice.bins, self.room.capacity)
        if choice.tier is Tier.START:
            self.room.fill(share)
            self.room.resident += 1
            self.room.remaining += 1
            self.plan.start.append((model, choice.bins))
            return
        self.room.reserve(share)
        self.plan.wait.append(model)
        if choice.tier is Tier.EVICT:
            self.plan.evict += choice.victims
        elif choice.tier is Tier.LATER:
            model.reserved = choice.bins

    def relieve(self) -> None:
        """Measured footprints or a lost node overfilled a bin: somebody leaves (rule 1)."""
        over = {b: self.room.staying[b] - size for b, size in self.room.capacity.items()}
        over = {b: size for b, size in over.items() if size > 0}
        picked = self.pick(over, 0, None) if over else None
        for victim in picked[0] if picked else ():
            if self.strategy.may_leave(victim, None, self.now):
                self.forecast.leaves(victim, None)
                self.chosen_victims.add(victim.spec.model)
                self.room.release(victim)
                self.plan.relieve.append(victim)


def take(
    models: list[Model],
    queue: list[Model],
    capacity: Mapping[str, int],
    strategy: Strategy,
    knobs: Knobs,
    now: float,
) -> Plan:
    """Who starts and who leaves now; `queue`: those that wait, the next one first.

    Changes nothing but `Model.reserved` and `Model.room_at`.
    """
    run = Pass(models, capacity, strategy, now)
    run.relieve()
    for model in queue:
        run.serve(model, knobs.max_resident)
    return run.plan
