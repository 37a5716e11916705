"""One example or more per rule of `llm_serve/residency/DESIGN.md`, on a recording fake."""

from __future__ import annotations

import pytest

from llm_serve.residency import Knobs, Known, ModelSpec, Scheduler
from llm_serve.residency import events as ev
from llm_serve.residency.effects import (
    Accepted,
    Admitted,
    Conflict,
    Expired,
    Failed,
    Kill,
    Target,
)
from tests.residency.world import World

GPU = {"n/g0": 100}
A, B, C = ModelSpec("a", 60), ModelSpec("b", 60), ModelSpec("c", 60)
KNOBS = Knobs(min_residency_s=10, max_wait_s=60, drain_timeout_s=100, max_pending_switches=3)


def world(*specs: ModelSpec, knobs: Knobs = KNOBS, bins: dict[str, int] | None = None) -> World:
    return World(list(specs or (A, B, C)), bins or GPU, knobs)


def come_up(here: World, name: str, seconds: float = 5.0) -> None:
    here.wait(seconds)
    here.up(name)
    here.deliver_all()


def resident(here: World, name: str) -> None:
    """Brings a model up and lets it become idle."""
    here.ask(f"first-{name}", name, 1000.0)
    come_up(here, name)
    here.wait(20.0)
    here.deliver_all()


def pass_time(here: World, seconds: float, step: float = 1.0) -> None:
    """Time passes, the ingresses report, and what has drained goes."""
    for _ in range(round(seconds / step)):
        here.wait(step)
        here.deliver_all()
        for name in {p.model for p in here.processes}:
            if not here.target[name].replicas and not here.work(name):
                here.gone(name)


def status(here: World, name: str) -> str:
    return next(m.status for m in here.scheduler.snapshot.models if m.model == name)


# -- rule 1: the budget --------------------------------------------------------------------------


def test_rule_1_a_draining_model_holds_its_share() -> None:
    here = world()
    resident(here, "a")
    here.send("i1", "a")  # a long answer
    here.deliver_all()
    here.ask("t", "b", 1000.0)
    pass_time(here, 80)
    assert here.target["a"].replicas == 0
    assert here.loads == ["a"], "b may not start while a drains"
    here.finish("i1", "a")
    here.gone("a")
    assert here.loads == ["a", "b"]


def test_rule_1_two_that_fit_are_both_resident() -> None:
    here = world(ModelSpec("a", 60), ModelSpec("b", 40))
    resident(here, "a")
    resident(here, "b")
    assert here.scheduler.snapshot.ready() == {"a", "b"}


def test_rule_1_max_resident_counts_the_draining() -> None:
    here = world(ModelSpec("a", 1), ModelSpec("b", 1), knobs=Knobs(max_resident=1))
    resident(here, "a")
    here.ask("t", "b", 1000.0)
    here.deliver_all()
    assert here.loads == ["a"]
    here.gone("a")
    assert here.loads == ["a", "b"]


def test_rule_1_an_estimate_is_corrected_by_what_was_measured() -> None:
    here = world(ModelSpec("a", 30), ModelSpec("b", 50))
    here.specs["a"] = ModelSpec("a", 60)
    here.ask("t", "a", 1000.0)
    come_up(here, "a")
    here.wait(20)
    here.ask("u", "b", 1000.0)
    assert here.loads == ["a"], "60 and 50 do not fit, whatever was declared"
    assert here.known["a"] == Known(60, 5.0)


def test_rule_1_who_overfills_a_bin_by_measurement_makes_room() -> None:
    scheduler = Scheduler([ModelSpec("a", 50), ModelSpec("b", 50)], GPU, KNOBS)
    scheduler.handle(ev.Recovered(), 0)
    for name in "ab":
        scheduler.handle(ev.Load(name, name), 0)
    scheduler.handle(ev.Up("a", "a-1", 50, 1), 1)
    scheduler.handle(ev.Up("b", "b-1", 90, 1), 2)
    assert len(scheduler.snapshot.ready()) == 2, "it does run"
    scheduler.handle(ev.Tick(), 60)
    assert len(scheduler.snapshot.ready()) == 1


def test_rule_1_bins_of_one_node_and_whole_bins() -> None:
    bins = {"n1/g0": 100, "n2/g0": 100, "n2/g1": 100}
    here = world(ModelSpec("x", 10, exclusive=True), ModelSpec("d", 150, bins=2), bins=bins)
    here.ask("t", "d", 1000.0)
    assert here.target["d"].bins == (("n2/g0", "n2/g1"),)
    here.ask("u", "x", 1000.0)
    assert here.target["x"].bins == (("n1/g0",),)


def test_rule_1_what_can_never_fit_is_said_at_once() -> None:
    here = world(ModelSpec("a", 60, pinned=True), ModelSpec("b", 101), ModelSpec("c", 60))
    come_up(here, "a")
    here.ask("t", "b", 1000.0)
    here.ask("u", "c")
    for ticket in "tu":
        answer = here.answers[ticket][0]
        assert isinstance(answer, Failed)
        assert "needs" in answer.reason


def test_rule_1_spare_room_becomes_replicas_and_is_taken_back() -> None:
    here = world(ModelSpec("a", 30, max_replicas=3), ModelSpec("b", 50))
    resident(here, "a")
    here.send("i1", "a")
    here.report("i1", queued=5)
    assert here.target["a"].replicas == 2
    here.up("a")
    here.report("i1", queued=5)
    assert here.target["a"].replicas == 3
    here.up("a")
    here.ask("t", "b", 1000.0)
    assert here.target["a"].replicas == 1
    assert "a" in here.scheduler.snapshot.ready(), "the model itself stays"
    here.shed("a")
    assert here.loads == ["a", "b"]


# -- rule 2: work in flight ----------------------------------------------------------------------


def test_rule_2_only_the_drain_timeout_kills() -> None:
    here = world()
    resident(here, "a")
    here.send("i1", "a")
    here.deliver_all()
    here.ask("t", "b", 1000.0)
    killed = []
    for _ in range(200):
        here.wait(1)
        killed += [here.now - here.zero_at["a"] for e in here.effects if isinstance(e, Kill)]
        here.deliver_all()
    assert killed == [101.0]


# -- rule 3: every request ends once -------------------------------------------------------------


def test_rule_3_each_kind_of_end() -> None:
    here = world()
    here.ask("held", "a", 1000.0)
    here.ask("sent away", "a")
    here.ask("impatient", "a", 3.0)
    here.ask("left", "a", 1000.0)
    here.cancel("left")
    here.wait(5)
    here.up("a")
    ends = {t: type(a[0]) for t, a in here.answers.items()}
    assert ends == {"held": Admitted, "sent away": Accepted, "impatient": Expired}


def test_rule_3_clients_of_a_dead_ingress_left() -> None:
    here = world()
    here.ask("t", "a", 1000.0)
    here.ingress_dies("i1")
    assert not here.answers
    assert not here.scheduler.models["a"].demand(here.now)


def test_rule_3_shutdown_answers_everybody() -> None:
    here = world()
    here.ask("t", "a", 1000.0)
    here.tell(ev.Shutdown())
    here.ask("u", "b", 1000.0)
    assert isinstance(here.answers["t"][0], Conflict)
    assert isinstance(here.answers["u"][0], Conflict)
    assert here.scheduler.snapshot.status == "draining"


def test_rule_3_too_many_switches_in_line() -> None:
    here = world(*(ModelSpec(n, 60) for n in "abcdef"))
    for name in "abcd":
        here.ask(name, name)
    here.ask("e", "e")
    here.ask("again", "d")
    assert isinstance(here.answers["e"][0], Conflict)
    answer = here.answers["again"][0]
    assert isinstance(answer, Accepted)
    assert (answer.waiting.position, answer.waiting.retry_after_s) == (3, 2)


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


# -- rule 6: failures ----------------------------------------------------------------------------


def test_rule_6_reason_share_cooldown_and_nobody_else() -> None:
    here = world(ModelSpec("a", 60), ModelSpec("ok", 30))
    resident(here, "ok")
    here.ask("t", "a", 1000.0)
    here.fail("a", "the file is truncated")
    answer = here.answers["t"][0]
    assert isinstance(answer, Failed)
    assert answer.reason == "the file is truncated"
    assert here.scheduler.snapshot.status == "degraded"
    assert status(here, "a") == "failed"
    assert here.scheduler.snapshot.ready() == {"ok"}
    here.gone("a")
    here.ask("u", "a", 1000.0)
    assert isinstance(here.answers["u"][0], Failed), "cooling down"
    here.wait(KNOBS.cooldown_s)
    assert here.scheduler.snapshot.status == "ok"
    here.ask("v", "a", 1000.0)
    here.fail("a", "again")  # the world checks that the cooldown doubled
    here.gone("a")
    here.wait(KNOBS.cooldown_s)
    here.ask("w", "a", 1000.0)
    assert isinstance(here.answers["w"][0], Failed)


def test_rule_6_a_stalled_load_fails() -> None:
    here = world()
    here.ask("t", "a", 10_000.0)
    here.wait(KNOBS.load_stall_s)
    here.tell(ev.Progress("a", here.of("a")[0].replica, "weights", 0.5))
    here.wait(KNOBS.load_stall_s)
    assert status(here, "a") == "loading", "it moves"
    here.wait(1)
    assert isinstance(here.answers["t"][0], Failed)


def test_rule_6_a_crash_is_forgiven_once() -> None:
    here = world()
    resident(here, "a")
    here.crash("a")
    assert status(here, "a") == "loading", "Ray starts it again"
    come_up(here, "a")
    here.crash("a")
    assert status(here, "a") == "failed"
    assert here.target["a"].replicas == 0


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


# -- rule 8: nothing to a leaving model ----------------------------------------------------------


def test_rule_8_the_target_falls_only_when_every_ingress_knows() -> None:
    here = World([A, B], GPU, KNOBS, ingresses=("i1", "i2"))
    resident(here, "a")
    here.ask("t", "b", 1000.0)
    assert status(here, "a") == "draining"
    here.deliver("i1")
    here.report("i1")
    assert here.target["a"].replicas == 1, "i2 still sends"
    here.deliver("i2")
    here.report("i2")
    assert here.target["a"].replicas == 0


def test_rule_8_a_silent_ingress_delays_it_by_the_timeout_only() -> None:
    here = World([A, B], GPU, KNOBS, ingresses=("i1", "i2"))
    resident(here, "a")
    here.ask("t", "b", 1000.0)
    here.wait(KNOBS.ack_timeout_s)
    assert here.target["a"].replicas == 0


def test_rule_8_a_raced_request_is_admitted_again() -> None:
    here = world()
    resident(here, "a")
    here.ask("t", "b", 1000.0)
    here.ask("raced", "a", 1000.0)
    assert "raced" in here.open
    here.deliver_all()
    here.gone("a")
    come_up(here, "b")
    pass_time(here, 30)
    here.up("a")
    assert isinstance(here.answers["raced"][0], Admitted)


def test_rule_8_a_model_is_left_alone_if_nobody_needs_its_place_any_more() -> None:
    here = world()
    resident(here, "a")
    here.ask("t", "b", 1000.0)
    here.wait(0.1)
    here.cancel("t")
    assert status(here, "a") == "ready"
    assert here.target["a"].replicas == 1


# -- rule 9: restarts ----------------------------------------------------------------------------


def test_rule_9_a_new_director_reloads_nothing() -> None:
    here = world(ModelSpec("a", 50), ModelSpec("b", 50), ModelSpec("c", 50))
    resident(here, "a")
    here.ask("t", "b", 1000.0)
    here.restart()  # the world checks; the ticket is asked again
    assert here.scheduler.snapshot.ready() == {"a"}
    assert status(here, "b") == "loading"
    here.up("b")
    assert isinstance(here.answers["t"][0], Admitted)
    assert here.loads == ["a", "b"]


def test_rule_9_nothing_is_decided_before_all_was_seen() -> None:
    here = World([A, B], GPU, KNOBS, recovered=False)
    here.ask("t", "a", 1000.0)
    here.wait(5)
    assert not here.loads
    assert here.scheduler.snapshot.status == "starting"
    here.tell(ev.Recovered())
    assert here.loads == ["a"]


def test_rule_9_the_first_drain_of_a_new_director_waits_for_unknown_ingresses() -> None:
    here = world()
    resident(here, "a")
    here.restart()
    here.wait(5)
    here.ask("t", "b", 1000.0)
    here.deliver_all()
    assert here.target["a"].replicas == 1
    here.wait(KNOBS.ack_timeout_s)
    assert here.target["a"].replicas == 0


# -- rule 10: who stays --------------------------------------------------------------------------


def test_rule_10_pinned_stays_and_the_other_is_told_so() -> None:
    here = world(ModelSpec("a", 60, pinned=True), ModelSpec("b", 60))
    come_up(here, "a")
    pass_time(here, 20)
    here.ask("t", "b", 1000.0)
    assert isinstance(here.answers["t"][0], Failed)
    pass_time(here, 200)
    assert here.scheduler.snapshot.ready() == {"a"}
    here.unload("u", "a")
    assert isinstance(here.answers["u"][0], Conflict)


def test_rule_10_a_pinned_model_comes_back_after_its_cooldown() -> None:
    here = world(ModelSpec("a", 60, pinned=True))
    here.fail("a")
    here.gone("a")
    here.wait(KNOBS.cooldown_s - 1)
    assert here.loads == ["a"]
    here.wait(1)
    assert here.loads == ["a", "a"]


def test_rule_10_keep_alive_global_and_per_model() -> None:
    specs = ModelSpec("a", 40), ModelSpec("b", 40, keep_alive_s=50)
    here = world(*specs, knobs=Knobs(keep_alive_s=300))
    resident(here, "a")
    resident(here, "b")
    pass_time(here, 50)
    assert here.scheduler.snapshot.ready() == {"a"}
    pass_time(here, 300)
    assert not here.scheduler.snapshot.ready()


def test_rule_10_preloads_are_up_before_ok() -> None:
    here = world(ModelSpec("a", 40, preload=True), ModelSpec("b", 40, preload=True))
    assert here.scheduler.snapshot.status == "starting"
    here.up("a")
    assert here.scheduler.snapshot.status == "starting"
    here.up("b")
    assert here.scheduler.snapshot.status == "ok"


# -- what clients are told -----------------------------------------------------------------------


def test_the_eta_comes_from_measured_loads() -> None:
    here = world()
    here.ask("t", "a")
    told = here.answers["t"][0]
    assert isinstance(told, Accepted)
    assert (told.waiting.eta_s, told.waiting.position) == (None, 0)
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
    assert (told.waiting.eta_s, told.waiting.retry_after_s) == (5.0, 5)


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
        ev.Usage("i1", 0, 0, {}),
    ):
        assert here.tell(event) == []
    assert (here.scheduler.snapshot, here.scheduler.snapshot.version) == (before, version)
    here.unload("u", "a")
    here.deliver_all()
    here.gone("a")
    assert not [e for e in here.tell(ev.Up("a", dead, 60, 1)) if isinstance(e, Target)]
