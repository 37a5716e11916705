"""A day of bursty traffic over 50 models and 4 accelerators, in simulated time.

    python bench/residency_sim.py [--seed N] [--hours H] [--load X]

Every policy runs through the same scheduler mechanics (budget, drain, coalescing) and sees the
same sessions; only the `Strategy` differs. Deterministic: the same seed prints the same table.

The traffic: people open sessions with a model, popularity falls off as Zipf; a session is a row
of requests, each sent some think time after the answer to the one before; the rate follows the
hour of the day, and some times a day a crowd opens sessions with many models at once. Nobody gives
up, so that waits are not hidden. A load takes 3 s and 0.5 s per GB.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import math
import random
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from llm_serve.residency import Knobs, ModelSpec, Scheduler, Strategy, Turns
from llm_serve.residency import events as ev
from llm_serve.residency.effects import Admitted, Publish, Target
from llm_serve.residency.state import Model, Phase

GB = 10**9
BINS = {f"node{i}": 80 * GB for i in range(4)}
SIZES_GB = (2, 4, 8, 16, 24, 40, 70)
SIZE_WEIGHTS = (4, 6, 9, 9, 6, 4, 2)
RELEASE_S = 1.0  # from the last answer until the processes are gone
ACK_S = 0.1


# -- traffic -----------------------------------------------------------------------------------


@dataclass(slots=True)
class Session:
    """Requests one after the other: `(think_s, service_s)` of each."""

    model: str
    at: float
    turns: list[tuple[float, float]]


def make_models(rng: random.Random) -> list[ModelSpec]:
    sizes = rng.choices(SIZES_GB, SIZE_WEIGHTS, k=50)
    return [
        ModelSpec(f"m{i:02d}", size * GB, load_s=3 + 0.5 * size) for i, size in enumerate(sizes)
    ]


def make_sessions(rng: random.Random, hours: float, load: float) -> list[Session]:
    popularity = [1 / (rank + 1) for rank in range(50)]
    names = [f"m{i:02d}" for i in range(50)]
    rng.shuffle(names)

    def session(at: float, name: str) -> Session:
        count = min(1 + int(rng.expovariate(1 / 11)), 60)
        turns = [(rng.expovariate(1 / 15), 0.5 + rng.expovariate(1 / 4)) for _ in range(count)]
        return Session(name, at, turns)

    sessions = []
    at, end = 0.0, hours * 3600
    peak = load / 10  # sessions a second at the top of the day
    while at < end:
        at += rng.expovariate(peak)
        if rng.random() < 0.55 - 0.45 * math.cos(2 * math.pi * at / 86400):
            sessions.append(session(at, rng.choices(names, popularity)[0]))
    for _ in range(round(hours)):  # a crowd
        at = rng.random() * end
        crowd = rng.sample(names, 12)
        sessions += [session(at + rng.random() * 10, name) for name in crowd]
    return sorted(sessions, key=lambda s: s.at)


# -- baselines ---------------------------------------------------------------------------------


class Immediate:
    """Models get their turn in the order of their first request; somebody leaves at once."""

    def __init__(self, worth: Callable[[Model, float], float], busy_may_leave: bool = True) -> None:
        self._worth = worth
        self._busy_may_leave = busy_may_leave

    def order(self, queue: Iterable[Model], now: float) -> list[Model]:
        return sorted(queue, key=lambda m: (m.since or 0.0, m.spec.model))

    def may_leave(self, victim: Model, waiter: Model | None, now: float) -> bool:
        if victim.phase is Phase.LOADING:
            return not victim.demand(now)
        return self._busy_may_leave or not victim.in_flight

    def leaves_at(
        self, victim: Model, waiter: Model, now: float, up_at: float | None = None
    ) -> float:
        return math.inf  # nobody is told

    def worth(self, victim: Model, now: float) -> float:
        return self._worth(victim, now)


def strategies() -> dict[str, Strategy]:
    return {
        "ours": Turns(KNOBS),
        "FIFO": Immediate(lambda m, now: m.ready_at),
        "LRU": Immediate(lambda m, now: m.last_used),
        "LRU, busy ones stay": Immediate(lambda m, now: m.last_used, busy_may_leave=False),
    }


KNOBS = Knobs(max_pending_switches=1000)


# -- the world ---------------------------------------------------------------------------------


@dataclass(slots=True)
class Result:
    requests: int = 0
    loads: int = 0
    wasted: int = 0
    waits: list[float] = field(default_factory=list)


class World:
    """Ray and one ingress, as far as the scheduler can tell. Time jumps from event to event."""

    def __init__(self, specs: list[ModelSpec], strategy: Strategy) -> None:
        self.load_s = {s.model: s.load_s or 0.0 for s in specs}
        self.scheduler = Scheduler(specs, BINS, KNOBS, strategy=strategy)
        self.now = 0.0
        self.result = Result()
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._ready: frozenset[str] = frozenset()
        self._version = 0
        self._in_flight: dict[str, int] = defaultdict(int)
        self._last_used: dict[str, float] = {}
        self._waiting: dict[str, tuple[float, Session, int]] = {}
        self._target: dict[str, Target] = {}
        self._served: set[str] = set()
        self._used: set[str] = set()
        self._left = 0

    def run(self, sessions: list[Session]) -> Result:
        self.tell(ev.Recovered())
        self._left = len(sessions)
        for session in sessions:
            self.at(session.at, lambda s=session: self.ask(s, 0))
        self.at(0.0, self.report_regularly)
        while self._agenda and self._left:
            self.now, _, action = heapq.heappop(self._agenda)
            action()
        return self.result

    def at(self, when: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (when, next(self._order), action))

    def tell(self, event: ev.Event) -> None:
        for effect in self.scheduler.handle(event, self.now):
            match effect:
                case Publish(snapshot):
                    self._ready, self._version = snapshot.ready(), snapshot.version
                    if any(m.state == "draining" for m in snapshot.models):
                        self.at(self.now + ACK_S, self.report)
                case Admitted(ticket):
                    since, session, turn = self._waiting.pop(ticket)
                    self.serve(session, turn, self.now - since)
                case Target():
                    self.obey(effect)
                case _:
                    pass

    def ask(self, session: Session, turn: int) -> None:
        self.result.requests += 1
        if session.model in self._ready:
            self.serve(session, turn, 0.0)
            return
        ticket = f"t{self.result.requests}"
        self._waiting[ticket] = (self.now, session, turn)
        self.tell(ev.Request(ticket, session.model, "ingress", hold_s=1e9))

    def serve(self, session: Session, turn: int, waited: float) -> None:
        self.result.waits.append(waited)
        self._served.add(session.model)
        self._used.add(session.model)
        self._in_flight[session.model] += 1
        self.at(self.now + session.turns[turn][1], lambda: self.answered(session, turn))

    def answered(self, session: Session, turn: int) -> None:
        name = session.model
        self._in_flight[name] -= 1
        self._last_used[name] = self.now
        self._used.add(name)
        target = self._target[name]
        if target.replicas == 0 and not self._in_flight[name]:
            self.at(self.now + RELEASE_S, lambda: self.gone(target))
        if turn + 1 < len(session.turns):
            self.at(self.now + session.turns[turn + 1][0], lambda: self.ask(session, turn + 1))
        else:
            self._left -= 1

    def obey(self, target: Target) -> None:
        name = target.model
        before = self._target.get(name)
        self._target[name] = target
        if target.replicas:
            self.result.loads += 1
            self._served.discard(name)
            self.at(self.now + self.load_s[name], lambda: self.up(target))
        elif before is not None and before.replicas:
            self.result.wasted += name not in self._served
            if not self._in_flight[name]:
                self.at(self.now + RELEASE_S, lambda: self.gone(target))

    def up(self, target: Target) -> None:
        name = target.model
        if self._target[name] is target:
            footprint = self.scheduler.models[name].spec.footprint
            replica = f"{name}#{target.generation}"
            bins = self.scheduler.models[name].shares[0].bins
            self.tell(ev.Up(name, replica, footprint, self.load_s[name], bins))

    def gone(self, target: Target) -> None:
        self.tell(ev.Running(target.model, target.generation))

    def _idle_s(self, name: str) -> float:
        return 0.0 if self._in_flight[name] else self.now - self._last_used[name]

    def report_regularly(self) -> None:
        self.report()
        self.at(self.now + (1.0 if self._waiting else 5.0), self.report_regularly)

    def report(self) -> None:
        uses = {
            name: ev.Use(self._in_flight[name], idle_s=self._idle_s(name))
            for name in sorted(self._used | {n for n, c in self._in_flight.items() if c})
        }
        self._used.clear()
        self.tell(ev.Usage("ingress", self._version, uses))


# -- the table ---------------------------------------------------------------------------------


def quantile(values: list[float], q: float) -> float:
    return sorted(values)[min(len(values) - 1, math.ceil(q * len(values)) - 1)]


def row(name: str, result: Result, bound: float) -> str:
    waits = result.waits
    cold = [w for w in waits if w > 0] or [0.0]
    return (
        f"{name:<20} {result.loads:>8} {result.wasted:>7} {sum(waits) / len(waits):>7.2f}"
        f" {quantile(waits, 0.5):>7.1f} {quantile(waits, 0.99):>7.1f} {max(waits):>7.1f}"
        f" {len(cold):>7} {quantile(cold, 0.5):>7.1f} {quantile(cold, 0.99):>7.1f}"
        f" {sum(w > bound for w in waits):>8}"
    )


def simulate(seed: int, hours: float, load: float) -> dict[str, Result]:
    """The result of every policy on the same day."""
    specs = make_models(random.Random(seed))
    sessions = make_sessions(random.Random(seed + 1), hours, load)
    return {name: World(specs, policy).run(sessions) for name, policy in strategies().items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--hours", type=float, default=24)
    parser.add_argument("--load", type=float, default=1.0, help="times the usual sessions")
    args = parser.parse_args()
    started = time.perf_counter()
    results = simulate(args.seed, args.hours, args.load)
    longest = max(results["ours"].waits)
    print(
        f"seed {args.seed}, {args.hours:g} h, {results['ours'].requests} requests, 50 models on"
        f" 4 x 80 GB; max_wait_s {KNOBS.max_wait_s:g}, min_residency_s {KNOBS.min_residency_s:g}"
    )
    print(
        f"{'policy':<20} {'switches':>8} {'unused':>7} {'mean':>7} {'p50':>7} {'p99':>7} {'max':>7}"
        f" {'cold':>7} {'p50':>7} {'p99':>7} {'starved':>8}"
    )
    for name, result in results.items():
        print(row(name, result, KNOBS.max_wait_s + 60))
    print("waits in seconds, of all requests and of those that met a cold model (cold);")
    print(f"starved: waited above max_wait_s + 60 s; ours waits {longest:.0f} s at the longest")
    print(f"{time.perf_counter() - started:.0f} s of real time")


if __name__ == "__main__":
    main()
