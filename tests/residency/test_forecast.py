"""What clients are told of the time: `eta_seconds` of a model in the queue, and Retry-After."""

from __future__ import annotations

import pytest

from llm_serve.residency import Knobs, ModelSpec
from tests.residency.steps import KNOBS, NODE, resident, status, world
from tests.residency.world import World

A, B, C = (ModelSpec(name, 60, load_s=load) for name, load in (("a", 5), ("b", 8), ("c", 20)))
PATIENT = Knobs(min_residency_s=30, max_wait_s=120, patience_loads=8.0)


def eta(here: World, name: str) -> float | None:
    picture = here.scheduler._picture()
    return next(m.eta_s for m in picture.models if m.id == name)


def serve(here: World, seconds: float, loads: dict[str, float]) -> None:
    """Time passes in small steps; whatever is up has work, what loads is up in its time."""
    for _ in range(round(seconds / 0.25)):
        here.wait(0.25)
        for name, load_s in loads.items():
            model = here.scheduler.models[name]
            if here.loading(name) and here.now - model.phase_at >= load_s:
                here.up(name, load_s=load_s)
        here.deliver_all()
        ingress = here.ingresses["i1"]
        for name in loads:
            if here.of(name) and not here.target[name].replicas:
                ingress.in_flight.pop(name, None)
                here.gone(name)
            elif not ingress.in_flight.get(name):
                here.send("i1", name)


def busy(knobs: Knobs = KNOBS) -> World:
    here = World([A, B, C], NODE, knobs)
    resident(here, "a")
    here.send("i1", "a")
    here.deliver_all()
    return here


def test_an_idle_victim_costs_the_load_alone() -> None:
    here = World([A, B, C], NODE, KNOBS)
    resident(here, "a")
    here.ask("t", "b", 1000.0)
    assert eta(here, "b") == 8


def test_a_busy_victim_costs_the_patience_that_is_left() -> None:
    here = busy()
    here.ask("t", "b", 1000.0)
    assert eta(here, "b") == 5 + 8 + 8, "what the switch costs, and then the load"
    here.ask("u", "c")
    told = here.answers["u"][0]
    eta_s = told.loading.model.eta_s  # type: ignore[union-attr]
    assert eta_s > 13 + 8 + KNOBS.min_residency_s, "and b keeps its place for a while"
    assert told.loading.retry_after_s == KNOBS.max_retry_after_s  # type: ignore[union-attr]


def test_a_victim_that_has_just_come_up_keeps_its_place_first() -> None:
    here = World([A, B, C], NODE, Knobs(min_residency_s=60, max_wait_s=60))
    here.ask("t", "a", 1000.0)
    here.wait(5)
    here.up("a", load_s=5)
    here.deliver_all()
    here.send("i1", "a")
    here.deliver_all()
    here.wait(2)
    here.ask("u", "b", 1000.0)
    assert eta(here, "b") == 60 - 2 + 8


def test_it_counts_down_without_events() -> None:
    here = busy()
    here.ask("t", "b", 1000.0)
    before, said = here.now, eta(here, "b")
    assert said is not None
    for _ in range(8):
        here.wait(1)
        here.deliver_all()
        assert eta(here, "b") == said - (here.now - before)


def test_without_a_measured_load_nothing_is_said() -> None:
    here = World([A, ModelSpec("b", 60), C], NODE, KNOBS)
    resident(here, "a")
    here.send("i1", "a")
    here.deliver_all()
    here.ask("t", "b", 1000.0)
    here.ask("u", "c", 1000.0)
    assert eta(here, "b") is None
    assert eta(here, "c") is None, "b is ahead of it"


def test_a_drain_that_was_measured_counts() -> None:
    here = busy()
    here.scheduler.models["a"].drain_s = 7.0
    here.ask("t", "b", 1000.0)
    assert eta(here, "b") == 13 + 7 + 8
    here.finish("i1", "a")
    here.deliver_all()
    here.wait(3)
    here.deliver_all()
    assert status(here, "a") == "draining"
    assert here.target["a"].replicas == 0
    assert eta(here, "b") == 7 + 8
    here.wait(3)
    assert eta(here, "b") == 4 + 8
    here.gone("a")
    assert here.scheduler.models["a"].drain_s == 3.0


def test_who_has_just_come_up_for_somebody_is_taken_to_be_busy() -> None:
    here = World([A, B, C], NODE, KNOBS)
    here.ask("t", "a", 1000.0)
    here.wait(2)
    here.ask("u", "b", 1000.0)
    assert eta(here, "b") == 3 + KNOBS.min_residency_s + 8
    here.wait(3)
    here.up("a", load_s=5)
    assert eta(here, "b") == KNOBS.min_residency_s + 8, "its clients are on their way"
    here.deliver_all()
    here.wait(2)
    assert eta(here, "b") == 0.5 + 8, "nobody came: it is idle half a load after it came up"


def test_two_that_find_room_at_once_do_not_wait_for_each_other() -> None:
    here = world(A, ModelSpec("b", 50, load_s=8), ModelSpec("c", 50, load_s=20))
    resident(here, "a")
    here.send("i1", "a")
    here.deliver_all()
    here.ask("t", "b", 1000.0)
    here.ask("u", "c", 1000.0)
    assert (eta(here, "b"), eta(here, "c")) == (13 + 8, 13 + 20)


@pytest.mark.parametrize("limit", [None, 1])
@pytest.mark.parametrize(("knobs", "nodes"), [(KNOBS, 1), (KNOBS, 2), (PATIENT, 1)])
def test_no_model_comes_later_than_was_said(knobs: Knobs, nodes: int, limit: int | None) -> None:
    """Under endless traffic to all that are up, six models take turns."""
    loads = {name: float(load) for name, load in zip("abcdef", (5, 8, 20, 3, 12, 6), strict=True)}
    knobs = Knobs(
        max_resident=limit,
        min_residency_s=knobs.min_residency_s,
        max_wait_s=knobs.max_wait_s,
        patience_loads=knobs.patience_loads,
    )
    specs = [ModelSpec(name, 60, load_s=load) for name, load in loads.items()]
    here = World(specs, {f"n{i}": 100 for i in range(nodes)}, knobs)
    resident(here, "a")
    promised: dict[str, float] = {}
    for name in "bcdef":
        here.ask(name, name, 1000.0)
        serve(here, 0.5, loads)
        said = eta(here, name)
        assert said is not None
        promised[name] = here.now + said
    came: dict[str, float] = {}
    while len(came) < 5 and here.now < 1500:
        serve(here, 0.25, loads)
        for name in "bcdef":
            if name in here.up_at and name not in came:
                came[name] = here.now
    steps = {name: 3 * (place + 1) for place, name in enumerate("bcdef")}  # each is noticed late
    assert {n for n in promised if came.get(n, 1e9) > promised[n] + steps[n]} == set()
