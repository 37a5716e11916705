"""Ray, the replicas and the ingresses as the scheduler meets them: a recording fake that checks.

`World.tell` hands one event to the scheduler, obeys the effects, and asserts the ten rules of
`llm_serve/residency/DESIGN.md` against what *really* runs here. No clock, no sleep.
"""

from __future__ import annotations

from collections.abc import Mapping

from llm_serve.residency import Knobs, Measurement, ModelSpec, Scheduler
from llm_serve.residency import events as ev
from llm_serve.residency.effects import (
    Accepted,
    Admitted,
    Begin,
    Declined,
    Displace,
    Done,
    Effect,
    Expired,
    Failed,
    Kill,
    Measured,
    Publish,
    Target,
)
from llm_serve.residency.state import Model, Phase
from tests.residency import referee
from tests.residency.cast import Answer, Asked, Ingress, Process
from tests.residency.invariants import check, granted


class World:
    def __init__(
        self,
        specs: list[ModelSpec],
        capacity: Mapping[str, int],
        knobs: Knobs,
        ingresses: tuple[str, ...] = ("i1",),
        recovered: bool = True,
    ) -> None:
        self.specs = {s.model: s for s in specs}
        self.capacity = dict(capacity)
        self.knobs = knobs
        self.now = 0.0
        self.scheduler = Scheduler(specs, capacity, knobs)
        self.known: dict[str, Measurement] = {}
        self.processes: list[Process] = []
        self.target: dict[str, Target] = {}
        self.zero_at: dict[str, float] = {}
        self.revoked_at: dict[str, float] = {}
        self.revoked_version: dict[str, int] = {}
        self.up_at: dict[str, float] = {}
        self.failures: dict[str, int] = {}
        self.cooldown_until: dict[str, float] = {}
        self.told: set[str] = set()  # an operator's unload
        self.open: dict[str, Asked] = {}
        self.answers: dict[str, list[Answer]] = {}
        self.effects: list[Effect] = []
        self.loads: list[str] = []
        self.first_up: set[str] = set()
        self.serial = 0
        self.newcomers: set[str] = set()
        self.late = False
        """Processes that start do not ask at once."""
        self.displaced: list[str] = []
        self.overfilled: dict[str, int] = {}
        """Bytes granted in bins that hold more than they may, since a model turned out larger."""
        self.ingresses = {n: Ingress(n, self.scheduler.snapshot) for n in ingresses}
        if recovered:
            self.tell(ev.Recovered())
            self.deliver_all()

    # -- the scheduler -------------------------------------------------------------------------

    def tell(self, event: ev.Event) -> list[Effect]:
        waited = [
            m.spec.model for m in self.scheduler.models.values() if m.queued_for_load(self.now)
        ]
        before = self.scheduler.snapshot
        loading = {n for n, m in self.scheduler.models.items() if m.phase is Phase.LOADING}
        sizes = {n: m.footprint for n, m in self.scheduler.models.items()}
        self.effects = self.scheduler.handle(event, self.now)
        for effect in self.effects:
            match effect:
                case Target():
                    referee.obey(self, effect, event, loading, waited)
                case Publish(snapshot):
                    referee.published(self, before, snapshot)
                    before = snapshot
                case Kill(model):
                    assert self.now - self.zero_at[model] > self.knobs.drain_timeout_s, "rule 2"
                case Begin(model, replica):
                    for process in [p for p in self.processes if p.replica == replica]:
                        assert self.target[model].replicas, "a load that nobody granted"
                        process.begun = True
                case Displace(model, replica):
                    for process in [p for p in self.processes if p.replica == replica]:
                        assert not process.begun, "rule 2: a replica that loads was displaced"
                        self.processes.remove(process)
                    self.displaced.append(replica)
                case Measured(model, footprint, load_s):
                    self.known[model] = Measurement(footprint, load_s)
                case Admitted() | Accepted() | Failed() | Declined() | Expired() | Done():
                    referee.answered(self, effect)
        referee.drop_the_silent(self)
        if any(sizes.get(n, 0) < m.footprint for n, m in self.scheduler.models.items()):
            self.overfilled = {n: granted(self, n) for n in self.capacity}
        check(self)
        effects = self.effects
        for process in [p for p in self.processes if p.replica in self.newcomers]:
            self.newcomers.discard(process.replica)
            if not self.late:
                self.asks(process)
        self.effects = effects
        return effects

    def asks(self, process: Process) -> None:
        """A replica's process has started, and asks whether it may load."""
        self.tell(ev.Asks(process.model, process.replica, process.bins))

    def _start(self, model: str, bins: tuple[str, ...]) -> None:
        self.serial += 1
        self.processes.append(Process(model, f"{model}-{self.serial}", bins))
        self.newcomers.add(f"{model}-{self.serial}")

    def silent(self, ingress: Ingress) -> bool:
        heard = ingress.heard_at
        return heard is not None and self.now - heard > self.knobs.ingress_timeout_s

    # -- what runs -----------------------------------------------------------------------------

    def live(self) -> list[Ingress]:
        limit = self.knobs.ingress_timeout_s
        return [i for i in self.ingresses.values() if self.now - i.reported_at <= limit]

    def of(self, model: str) -> list[Process]:
        return [p for p in self.processes if p.model == model]

    def work(self, model: str) -> int:
        return sum(i.in_flight.get(model, 0) for i in self.ingresses.values())

    def up(self, model: str, *, footprint: int | None = None, load_s: float = 1.0) -> None:
        for process in self.loading(model):
            process.up = True
            self.up_at.setdefault(model, self.now)
            if self.scheduler.models[model].phase is Phase.LOADING:
                self.up_at[model] = self.now
                self.first_up.add(model)
                self.cooldown_until.pop(model, None)
            size = footprint or self.specs[model].footprint
            self.tell(ev.Up(model, process.replica, size, load_s, process.bins))

    def estimated(self, model: str, size: int) -> None:
        """Its files are there, so its replica can tell what it will take."""
        process, known = self.loading(model)[0], self.scheduler.models[model]
        measured = known.footprint if known.measured else None
        self.tell(ev.Progress(model, process.replica, "weights", estimate=size))
        right = max(size, known.spec.declared) if measured is None else measured
        assert known.footprint == right, "rule 1: a measurement wins, an estimate corrects"

    def loading(self, model: str) -> list[Process]:
        return [p for p in self.of(model) if p.begun and not p.up and not p.broken]

    def doubt(self, process: Process) -> None:
        """Somebody takes a replica for dead that lives: nothing is lost, nothing is counted."""
        model = self.scheduler.models[process.model]
        before = (model.failures, model.cooldown_until, self.target[process.model])
        self.tell(ev.Doubted(process.model, process.replica))
        assert before == (model.failures, model.cooldown_until, self.target[process.model])

    def reports(self, model: str) -> None:
        """The replicas that are up say so again, as they do every other second."""
        for process in [p for p in self.of(model) if p.up]:
            size = self.scheduler.models[model].footprint
            loads = len(self.loads)
            failures = self.scheduler.models[model].failures
            self.tell(ev.Up(model, process.replica, size, 1.0, process.bins))
            assert self.scheduler.models[model].failures == failures, "it had not failed"
            assert model not in self.loads[loads:], "it was there all the time"

    def fail(self, model: str, reason: str = "out of memory") -> None:
        """A replica that cannot load reports it and idles until its target is 0."""
        process = self.loading(model)[0]
        process.broken = True
        referee.tell_of_failure(self, model, ev.Unusable(model, process.replica, reason))

    def crash(self, model: str, reason: str = "killed", which: int = 0) -> None:
        """A process ends by itself; Ray starts another in its place."""
        process = self.of(model)[which % len(self.of(model))]
        self.processes.remove(process)
        for ingress in self.ingresses.values():
            ingress.in_flight.pop(model, None)
        if self.target[model].replicas:
            self._start(model, process.bins)
        referee.tell_of_failure(self, model, ev.Died(model, process.replica, reason))

    def gone(self, model: str) -> None:
        """Ray has drained it (rule 2: never before its work is done)."""
        assert not self.work(model)
        self.processes = [p for p in self.processes if p.model != model]
        self.up_at.pop(model, None)
        self.tell(ev.Running(model, self.target[model].generation))

    def replace(self, model: str) -> None:
        """Ray Serve replaces a replica (a new configuration): the new process starts at once, and
        the old one drains (rule 1: nothing is loaded beside it)."""
        old = next(p for p in self.of(model) if p.begun)
        self._start(model, old.bins)
        for process in [p for p in self.processes if p.replica in self.newcomers]:
            self.newcomers.discard(process.replica)
            self.asks(process)
            begun = [p for p in self.of(model) if p.begun]
            room = len(begun) <= len(self.scheduler.models[model].shares)
            assert room, "rule 1: loaded beside the one that drains"

    def replaced(self, model: str) -> None:
        """The old one has drained; that is no failure of anybody's."""
        known = self.scheduler.models[model]
        old = next(p for p in self.of(model) if p.begun)
        was = (known.failures, known.cooldown_until)
        another_waits = bool(known.applicants)  # else it looks like a crash beside a new replica
        forgiven = old.up and known.phase is Phase.READY and another_waits
        self.processes.remove(old)
        self.tell(ev.Died(model, old.replica, "replaced"))
        assert not forgiven or was == (known.failures, known.cooldown_until), "rule 6: no failure"

    def shed(self, model: str) -> None:
        """Ray takes the replicas above the target down."""
        here = sorted(self.of(model), key=lambda p: (not p.up, not p.begun))  # as Ray chooses
        for process in here[self.target[model].replicas :]:
            self.processes.remove(process)
            if process.begun:
                self.tell(ev.Died(model, process.replica, "shed"))
        if not self.target[model].replicas:
            return
        names = tuple(p.replica for p in self.of(model))
        self.tell(ev.Running(model, self.target[model].generation, names))

    # -- the ingresses -------------------------------------------------------------------------

    def ask(
        self, ticket: str, model: str, hold_s: float | None = None, ingress: str = "i1"
    ) -> None:
        held = hold_s is not None
        self.open[ticket] = Asked(model, ingress, self.now + (hold_s or 0.0), held)
        self.ingresses[ingress].heard_at = self.now
        self.tell(ev.Request(ticket, model, ingress, hold_s))
        answer = self.answers.get(ticket, [None])[-1]
        if ticket not in self.open and isinstance(answer, Admitted):
            self.send(ingress, model)

    def cancel(self, ticket: str) -> None:
        del self.open[ticket]
        self.tell(ev.Cancel(ticket))

    def send(self, ingress: str, model: str) -> bool:
        """Sends to a model if the ingress holds it for ready; False: it does not, or was late."""
        here = self.ingresses[ingress]
        if model not in here.view.ready() or self.target[model].replicas == 0:
            return False
        here.in_flight[model] = here.in_flight.get(model, 0) + 1
        return True

    def finish(self, ingress: str, model: str) -> None:
        here = self.ingresses[ingress]
        here.in_flight[model] -= 1
        if not here.in_flight[model]:
            del here.in_flight[model]

    def deliver(self, ingress: str) -> None:
        here = self.ingresses[ingress]
        if here.mail:
            here.view = here.mail.pop(0)

    def report(self, ingress: str, queued: int = 0) -> None:
        here = self.ingresses[ingress]
        here.reported, here.reported_at = dict(here.in_flight), self.now
        here.heard_at = self.now
        uses = {m: ev.Use(n, queued) for m, n in here.in_flight.items()}
        self.tell(ev.Usage(ingress, here.view.version, uses))

    def still_alive(self, name: str) -> None:
        """A report that says nothing new, as they come twice a second."""
        here = self.ingresses[name]
        here.reported_at = here.heard_at = self.now
        uses = {m: ev.Use(n) for m, n in here.reported.items()}
        self.tell(ev.Usage(name, here.view.version, uses))

    def deliver_all(self) -> None:
        for name, ingress in self.ingresses.items():
            if ingress.mute:
                continue
            ingress.view = ingress.mail[-1] if ingress.mail else ingress.view
            ingress.mail.clear()
            self.report(name)

    def ingress_dies(self, name: str) -> None:
        del self.ingresses[name]
        self.open = {t: a for t, a in self.open.items() if a.ingress != name or a.load}
        self.tell(ev.IngressGone(name))
        self.revive(name)

    def ingress_falls_silent(self, name: str) -> None:
        """Its process ends, its clients with it, and nobody tells."""
        here = self.ingresses[name]
        here.mute = True
        here.in_flight.clear()

    def revive(self, name: str) -> None:
        """Another process, which Ray starts in the place of one that ended."""
        self.ingresses[name] = Ingress(name, self.scheduler.snapshot)

    # -- time, operators, restarts -------------------------------------------------------------

    def wait(self, seconds: float) -> None:
        effects: list[Effect] = []
        step = self.knobs.ingress_timeout_s / 2
        while seconds > 0 and any(i.heard_at is not None for i in self.ingresses.values()):
            passed = min(step, seconds)
            self.now += passed
            seconds -= passed
            heard = [n for n, i in self.ingresses.items() if i.heard_at is not None and not i.mute]
            for name in heard:
                self.still_alive(name)
                effects += self.effects
        self.now += seconds
        self.effects = effects + self.tell(ev.Tick())

    def load(self, ticket: str, model: str) -> None:
        self.open[ticket] = Asked(model, "", self.now, held=False, load=True)
        self.tell(ev.Load(ticket, model))

    def unload(self, ticket: str, model: str) -> None:
        self.open[ticket] = Asked(model, "", self.now, held=False, load=True)
        if not self.scheduler.models[model].pinned:
            self.told.add(model)
        self.tell(ev.Unload(ticket, model))
        if not self.of(model):
            self.told.discard(model)

    def restart(self) -> None:
        referee.restart(self)

    # -- who waits -----------------------------------------------------------------------------

    def queue(self) -> list[Model]:
        models = [m for m in self.scheduler.models.values() if m.queued_for_load(self.now)]
        return sorted(models, key=lambda m: (m.since or 0.0, m.spec.model))
