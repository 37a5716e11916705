"""Twenty thousand adversarial steps: the rules hold whatever the world does, in any order."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from llm_serve.residency import Knobs, ModelSpec
from llm_serve.residency import events as ev
from llm_serve.residency.state import Phase
from tests.residency.world import World

INGRESSES = ("i1", "i2")
SPECS = [
    ModelSpec("a", 40),
    ModelSpec("b", 60),
    ModelSpec("c", 100, keep_alive_s=30),
    ModelSpec("d", 160, bins=2),
    ModelSpec("e", 30, max_replicas=2),
    ModelSpec("f", 20, fraction=1.0),
    ModelSpec("i", 20, fraction=0.5, max_replicas=2),
    ModelSpec("g", 20, preload=True),
    ModelSpec("h", 15, max_replicas=3),
]
NAMES = [s.model for s in SPECS]
model = st.sampled_from(NAMES)
ingress = st.sampled_from(INGRESSES)
seconds = st.sampled_from([0.0, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 31.0, 61.0, 200.0])


class Machine(RuleBasedStateMachine):
    steps: ClassVar[Counter[str]] = Counter()
    world: World

    def count(self, name: str) -> None:
        Machine.steps[name] += 1

    def pick(self, names: list[str], index: int) -> str | None:
        return sorted(names)[index % len(names)] if names else None

    @initialize(
        limit=st.sampled_from([None, None, 1, 2]),
        bins=st.sampled_from(
            [("n1", "n1/g0", "n1/g1"), ("n1", "n2", "n1/g0", "n1/g1", "n2/g0"), ("n1",)]
        ),
        keep=st.sampled_from([None, 0.0, 60.0]),
        residency=st.sampled_from([0.0, 5.0, 30.0]),
        pending=st.sampled_from([1, 3, 32]),
        pinned=st.sampled_from(["", "", "a", "e", "ae"]),
    )
    def begin(
        self,
        limit: int | None,
        bins: tuple[str, ...],
        keep: float | None,
        residency: float,
        pending: int,
        pinned: str,
    ) -> None:
        knobs = Knobs(
            max_resident=limit,
            min_residency_s=residency,
            max_wait_s=60,
            keep_alive_s=keep,
            max_pending_switches=pending,
            drain_timeout_s=100,
            load_stall_s=150,
        )
        self.tickets = 0
        specs = [replace(s, pinned=s.model in pinned) for s in SPECS]
        self.world = World(specs, dict.fromkeys(bins, 100), knobs, INGRESSES)

    def ticket(self) -> str:
        self.tickets += 1
        return f"t{self.tickets}"

    @rule(model=model, ingress=ingress, hold=st.sampled_from([None, 0.0, 5.0, 50.0, 500.0]))
    def ask(self, model: str, ingress: str, hold: float | None) -> None:
        self.count("ask")
        if self.world.ingresses[ingress].mute:  # another has its name now, so its end is known
            self.world.ingress_dies(ingress)
        if not self.world.send(ingress, model):
            self.world.ask(self.ticket(), model, hold, ingress)

    @rule(index=st.integers(0, 99))
    def cancel(self, index: int) -> None:
        self.count("cancel")
        if ticket := self.pick(list(self.world.open), index):
            self.world.cancel(ticket)

    @rule(index=st.integers(0, 99))
    def finish(self, index: int) -> None:
        self.count("finish")
        busy = [f"{i.name} {m}" for i in self.world.ingresses.values() for m in i.in_flight]
        if choice := self.pick(busy, index):
            self.world.finish(*choice.split())

    @rule(ingress=ingress)
    def deliver(self, ingress: str) -> None:
        self.count("deliver")
        self.world.deliver(ingress)

    @rule(ingress=ingress, queued=st.sampled_from([0, 0, 3]))
    def report(self, ingress: str, queued: int) -> None:
        self.count("report")
        if not self.world.ingresses[ingress].mute:
            self.world.report(ingress, queued)

    @rule(model=model, ingress=ingress)
    def crowd(self, model: str, ingress: str) -> None:
        """More requests than one replica takes, if it is up; else somebody who waits long."""
        self.count("crowd")
        if self.world.ingresses[ingress].mute:
            return
        if self.world.send(ingress, model):
            self.world.report(ingress, queued=3)
        else:
            self.world.ask(self.ticket(), model, 1000.0, ingress)

    @rule()
    def catch_up(self) -> None:
        self.count("catch_up")
        self.world.deliver_all()

    def _loading(self) -> list[str]:
        phases = self.world.scheduler.models
        return [
            p.model
            for p in self.world.processes
            if p in self.world.loading(p.model) and phases[p.model].phase is not Phase.UNLOADED
        ]

    @rule(index=st.integers(0, 99))
    def up(self, index: int) -> None:
        self.count("up")
        if name := self.pick(self._loading(), index):
            self.world.up(name)

    @rule(index=st.integers(0, 99), fraction=st.sampled_from([None, 0.5]))
    def progress(self, index: int, fraction: float | None) -> None:
        self.count("progress")
        if name := self.pick(self._loading(), index):
            process = self.world.loading(name)[0]
            self.world.tell(ev.Progress(name, process.replica, "weights", fraction))

    @rule(index=st.integers(0, 99), size=st.sampled_from([10, 55, 90, 130]))
    def estimated(self, index: int, size: int) -> None:
        """Its files have come, and are smaller or larger than anybody thought."""
        self.count("estimated")
        if name := self.pick(self._loading(), index):
            self.world.estimated(name, size)

    def fail(self, index: int) -> None:
        phases = self.world.scheduler.models
        names = [n for n in self._loading() if phases[n].phase in (Phase.LOADING, Phase.READY)]
        if name := self.pick(names, index):
            self.world.fail(name)

    def crash(self, index: int) -> None:
        if name := self.pick([p.model for p in self.world.processes], index):
            self.world.crash(name, which=index)

    def replace(self, index: int) -> None:
        """A new configuration: a second process of a model that is up, beside the first."""
        world = self.world
        names = [m for m in world.scheduler.snapshot.ready() if not world.work(m)]
        if name := self.pick(names, index):
            world.replace(name)
            world.wait(float(index % 3))
            if world.target[name].replicas:
                world.replaced(name)

    @rule(index=st.integers(0, 99))
    def doubt(self, index: int) -> None:
        """A replica is taken for dead that lives; sooner or later it reports again."""
        self.count("doubt")
        world = self.world
        up = sorted((p for p in world.processes if p.up), key=lambda p: p.replica)
        if up:
            process = up[index % len(up)]
            world.doubt(process)
            if index % 2:
                world.reports(process.model)

    @rule()
    def ask_late(self) -> None:
        """From here on processes take their time before they ask, or ask again and again."""
        self.count("ask_late")
        self.world.late = not self.world.late
        for process in [p for p in self.world.processes if not p.begun]:
            self.world.asks(process)

    @rule(index=st.integers(0, 99))
    def another_replica(self, index: int) -> None:
        self.count("another_replica")
        world = self.world
        ready = [m for m in "ehi" if m in world.scheduler.snapshot.ready()]
        world.deliver_all()
        if (name := self.pick(ready, index)) and world.send("i1", name):
            for one in world.ingresses:
                if not world.ingresses[one].mute:
                    world.report(one, queued=5)
            if index % 2:
                world.up(name)

    @rule(
        kind=st.sampled_from(
            [
                *("fail", "crash", "ingress dies", "falls silent", "restart", "replace"),
                *("unload", "load"),
            ]
        ),
        index=st.integers(0, 99),
    )
    def mishap(self, kind: str, index: int) -> None:
        self.count(kind)
        world, name = self.world, NAMES[index % len(NAMES)]
        match kind:
            case "fail":
                self.fail(index)
            case "crash":
                self.crash(index)
            case "ingress dies":
                world.ingress_dies(INGRESSES[index % 2])
            case "falls silent":
                here = world.ingresses[INGRESSES[index % 2]]
                if here.mute:  # another process in its place, so the end of this one is known
                    world.ingress_dies(here.name)
                else:
                    world.ingress_falls_silent(here.name)
            case "replace":
                self.replace(index)
            case "restart":
                world.restart()
            case "unload":
                world.unload(self.ticket(), name)
            case "load":
                world.load(self.ticket(), name)

    @rule()
    def all_goes_well(self) -> None:
        """Whatever loads comes up, whatever drains is gone, everybody has heard of it."""
        self.count("all_goes_well")
        world = self.world
        for process in [p for p in world.processes if not p.begun]:
            world.asks(process)
        for name in self._loading():
            world.up(name)
        for name in sorted({p.model for p in world.processes if p.up}):
            world.reports(name)
        world.now += 1.0
        world.deliver_all()
        for name in sorted({p.model for p in world.processes}):
            if not world.target[name].replicas and not world.work(name):
                world.gone(name)
        self.shed()
        world.deliver_all()

    @rule(index=st.integers(0, 99))
    def drained(self, index: int) -> None:
        self.count("drained")
        world = self.world
        names = {p.model for p in world.processes if not world.target[p.model].replicas}
        if name := self.pick([n for n in names if not world.work(n)], index):
            world.gone(name)

    def shed(self) -> None:
        for name in "ehi":
            target = self.world.target[name].replicas
            shedding = self.world.scheduler.models[name].shedding
            if shedding and 0 < target < len(self.world.of(name)):
                self.count("shed")
                self.world.shed(name)

    @rule(model=model, generation=st.integers(0, 5))
    def stale(self, model: str, generation: int) -> None:
        self.count("stale")
        if generation != self.world.target[model].generation:
            self.world.tell(ev.Running(model, generation))
        for event in (
            ev.Died(model, f"{model}-0", "late"),
            ev.Cancel("nobody"),
        ):
            self.world.tell(event)

    @rule(seconds=seconds)
    def wait(self, seconds: float) -> None:
        self.count("wait")
        self.world.wait(seconds)

    @rule(seconds=seconds)
    def wait_on(self, seconds: float) -> None:
        """Time passes with every ingress alive and everything that can end ending."""
        self.count("wait_on")
        self.world.wait(seconds)
        self.world.deliver_all()


@pytest.mark.long
def test_twenty_thousand_steps() -> None:
    Machine.steps.clear()
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=300,
            stateful_step_count=100,
            derandomize=True,  # the same steps everywhere: a change of ours is what may fail here
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    total = sum(Machine.steps.values())
    print(f"{total} steps: {dict(Machine.steps)}")
    assert total >= 20_000
    assert min(Machine.steps.values()) >= 10, "no kind of step is a mere accident"
