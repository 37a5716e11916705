"""Who waits, for how long, and what they are told meanwhile: rules 4, 5 and 7.

The numbers are those of `llm_serve/residency/DESIGN.md`.
"""

from __future__ import annotations

import pytest

from llm_serve.residency import Knobs, ModelSpec
from llm_serve.residency import events as ev
from llm_serve.residency.effects import Accepted, Admitted, Target
from tests.residency.steps import KNOBS, come_up, pass_time, resident, status, world

# -- rule 4: one load ----------------------------------------------------------------------------


def test_rule_4_requests_coalesce() -> None:
    here = world()
    for number in range(50):
        here.ask(f"t{number}", "a", 1000.0)
    come_up(here, "a")
    assert here.loads == ["a"]
    assert sum(isinstance(a[0], Admitted) for a in here.answers.values()) == 50


def test_rule_4_no_second_load_while_the_first_one_leaves() -> None:
    here = world()
    here.ask("t", "a", 1000.0)
    here.ask("u", "b", 1000.0)
    here.wait(1)
    here.cancel("t")
    here.ask("v", "a", 1000.0)
    here.wait(1)
    assert here.loads == ["a"]
    here.gone("a")
    assert here.loads == ["a", "b"]


# -- rule 5: turns -------------------------------------------------------------------------------


def test_rule_5_endless_traffic_does_not_starve_the_other() -> None:
    here = world()
    resident(here, "a")
    asked = here.now
    here.ask("t", "b", 1000.0)
    while "b" not in here.loads:
        assert here.now - asked <= KNOBS.max_wait_s + 3, "max_wait_s and one drain"
        here.send("i1", "a")
        here.wait(0.5)
        here.deliver_all()
        here.ingresses["i1"].in_flight.clear()
        if here.of("a") and not here.target["a"].replicas:
            here.gone("a")


def test_rule_5_a_busy_model_keeps_its_place_for_min_residency() -> None:
    here = world()
    here.ask("t", "a", 1000.0)
    here.ask("u", "b", 1000.0)
    pass_time(here, 100)
    here.up("a")
    came_up = here.now
    here.deliver_all()
    here.send("i1", "a")
    while here.target["a"].replicas:
        here.deliver_all()
        here.wait(0.5)
    assert KNOBS.min_residency_s <= here.now - came_up <= KNOBS.min_residency_s + 2


def test_rule_5_an_idle_model_gives_way_at_once() -> None:
    here = world()
    resident(here, "a")
    here.ask("t", "b", 1000.0)
    here.deliver_all()
    assert here.target["a"].replicas == 0


def test_rule_5_waiting_requests_are_collated() -> None:
    here = world()
    for number in range(30):
        here.ask(f"t{number}", "abc"[number % 3], 1000.0)
    for _ in range(60):
        for process in list(here.processes):
            if here.target[process.model].replicas and not process.up:
                here.up(process.model)
        pass_time(here, 5)
    assert here.loads == ["a", "b", "c"]


def test_rule_5_small_models_do_not_slip_past_a_large_one() -> None:
    here = world(ModelSpec("big", 100), *(ModelSpec(f"s{i}", 30) for i in range(9)))
    resident(here, "s0")
    here.send("i1", "s0")
    here.deliver_all()
    here.ask("t", "big", 1000.0)
    for number in range(1, 9):
        here.ask(f"u{number}", f"s{number}", 1000.0)
    pass_time(here, 70)
    assert here.loads == ["s0"], "the room is kept for the one whose turn it is"
    here.finish("i1", "s0")
    pass_time(here, 2)
    assert here.loads == ["s0", "big"]


def test_rule_5_the_cheapest_to_lose_leaves() -> None:
    specs = [ModelSpec(n, 50) for n in "abc"]
    here = world(*specs)
    here.ask("ta", "a", 1000.0)
    come_up(here, "a", 60)  # dear to reload
    here.ask("tb", "b", 1000.0)
    come_up(here, "b", 5)
    here.wait(100)
    here.deliver_all()
    here.ask("tc", "c", 1000.0)
    here.deliver_all()
    assert here.target["a"].replicas == 1, "used longer ago, but twelve times as dear"
    assert here.target["b"].replicas == 0


def test_rule_5_a_202_client_finds_the_model_when_it_is_back() -> None:
    here = world(knobs=Knobs(min_residency_s=0, max_wait_s=10))
    here.ask("t", "a")
    here.ask("u", "b", 1000.0)
    here.wait(6)
    here.ask("t2", "a")
    here.wait(5)
    here.up("a")
    here.deliver_all()
    here.wait(3)
    assert "a" in here.scheduler.snapshot.ready(), "b is overdue, a's client is on its way"
    pass_time(here, 15)
    assert here.loads == ["a", "b"], "but not for ever"


# -- rule 7: nobody waits ------------------------------------------------------------------------


def test_rule_7_the_load_is_cancelled_if_another_waits() -> None:
    here = world()
    here.ask("t", "a", 1000.0)
    here.wait(1)
    here.cancel("t")
    here.wait(1)
    assert status(here, "a") == "loading", "nobody else wants the room"
    here.ask("u", "b", 1000.0)
    assert here.target["a"].replicas == 0
    here.gone("a")
    assert here.loads == ["a", "b"]


def test_rule_7_a_client_that_was_sent_away_counts_until_it_should_be_back() -> None:
    here = world()
    here.ask("t", "a")
    here.ask("u", "b", 1000.0)
    here.wait(11)
    assert status(here, "a") == "loading"
    here.wait(2)
    assert here.target["a"].replicas == 0


# -- what clients are told -----------------------------------------------------------------------


def test_the_eta_comes_from_measured_loads() -> None:
    here = world()
    here.ask("t", "a")
    told = here.answers["t"][0]
    assert isinstance(told, Accepted)
    assert (told.loading.model.eta_s, told.loading.model.position) == (None, 0)
    come_up(here, "a", 8)
    here.wait(20)
    here.unload("u", "a")
    here.deliver_all()
    here.gone("a")
    here.ask("v", "a")
    here.wait(3)
    here.ask("w", "a")
    told = here.answers["w"][0]
    assert isinstance(told, Accepted)
    assert (told.loading.model.eta_s, told.loading.retry_after_s) == (5.0, 5)


@pytest.mark.parametrize(
    "knobs", [{"min_residency_s": 9, "max_wait_s": 8}, {"max_resident": 0}, {"cooldown_s": -1}]
)
def test_knobs_that_cannot_work_are_refused(knobs: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(knobs))):
        Knobs(**knobs)  # type: ignore[arg-type]


def test_late_and_unknown_events_change_nothing() -> None:
    here = world()
    resident(here, "a")
    before, version = here.scheduler.snapshot, here.scheduler.snapshot.version
    dead = here.of("a")[0].replica
    for event in (
        ev.Up("nobody", "r", 1, 1),
        ev.Died("a", "another", "late"),
        ev.Running("a", 0),
        ev.Cancel("never asked"),
    ):
        assert here.tell(event) == []
    assert (here.scheduler.snapshot, here.scheduler.snapshot.version) == (before, version)
    here.unload("u", "a")
    here.deliver_all()
    here.gone("a")
    assert not [e for e in here.tell(ev.Up("a", dead, 60, 1)) if isinstance(e, Target)]
