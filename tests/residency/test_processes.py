"""Processes and their shares: permission to load, killed loads, hearsay, several replicas.

The numbers are those of `llm_serve/residency/DESIGN.md`.
"""

from __future__ import annotations

from llm_serve.residency import ModelSpec, Scheduler
from llm_serve.residency import events as ev
from llm_serve.residency.effects import Admitted, Failed, Target
from llm_serve.residency.processes import DISPLACE_AFTER_S, DISPLACED_MOST
from tests.residency.steps import KNOBS, NODE, A, B, come_up, pass_time, resident, status, world
from tests.residency.world import World


def replicas(here: World, name: str) -> int:
    return next(m.replicas for m in here.scheduler.snapshot.models if m.id == name)


def pair(here: World) -> None:
    """Model `a` with two replicas that are up."""
    resident(here, "a")
    here.send("i1", "a")
    here.report("i1", queued=5)
    here.up("a")
    here.deliver_all()
    assert replicas(here, "a") == here.target["a"].replicas == 2


# -- rule 1: permission --------------------------------------------------------------------------


def test_rule_1_a_replacement_waits_until_the_old_process_is_gone() -> None:
    """As after a changed configuration: Ray starts the new one beside the one that drains."""
    here = world()
    resident(here, "a")
    here.replace("a")
    old, new = here.of("a")
    pass_time(here, 100)
    assert not new.begun
    assert status(here, "a") == "ready", "the old one drains, and is asked no less for it"
    here.replaced("a")
    assert new.begun
    assert not old.broken
    come_up(here, "a")
    assert status(here, "a") == "ready"
    assert here.scheduler.models["a"].failures == 0


def test_an_engine_that_ended_is_a_crash_even_if_ray_has_replaced_it() -> None:
    here = world()
    resident(here, "a")
    old = here.of("a")[0]
    here.tell(ev.Unusable("a", old.replica, "its engine ended"))
    here.replace("a")
    old.up = False
    here.replaced("a")
    assert here.scheduler.models["a"].failures == 1


def test_a_replica_on_a_full_node_does_not_load_there() -> None:
    """Ray placed it where the scheduler did not count it: another is tried, some times."""
    here = world(ModelSpec("a", 60), ModelSpec("b", 60), bins={"n": 100, "m": 100})
    resident(here, "a")
    here.late = True
    here.ask("t", "b", 1000.0)
    wrong = here.of("a")[0].bins
    for number in range(1, DISPLACED_MOST + 1):
        process = here.of("b")[0]
        process.bins = wrong
        here.asks(process)
        assert not process.begun
        here.wait(DISPLACE_AFTER_S)
        if number < DISPLACED_MOST:
            assert len(here.displaced) == number
            here._start("b", wrong)
    answer = here.answers["t"][0]
    assert isinstance(answer, Failed)
    assert f"{DISPLACED_MOST} times on a node or accelerator without room" in answer.reason


# -- rule 6: killed loads ------------------------------------------------------------------------


def test_rule_6_a_killed_load_is_tried_once_more() -> None:
    here = world()
    here.ask("t", "a", 1000.0)
    here.crash("a", "killed for memory")
    assert "t" in here.open, "nobody hears of the first"
    assert here.of("a")[0].begun, "Ray's next process may load"
    here.crash("a", "killed for memory again")
    answer = here.answers["t"][0]
    assert isinstance(answer, Failed)
    assert answer.reason == "killed for memory again"


def test_rule_6_a_reason_of_the_engine_is_told_at_once() -> None:
    here = world()
    here.ask("t", "a", 1000.0)
    here.fail("a", "no such file")
    assert isinstance(here.answers["t"][0], Failed)


def test_rule_6_one_replica_that_fails_leaves_the_others_alone() -> None:
    here = world(ModelSpec("a", 30, max_replicas=3))
    resident(here, "a")
    here.send("i1", "a")
    here.report("i1", queued=5)
    assert replicas(here, "a") == 1, "the second one loads"
    here.fail("a", "no room")
    assert here.target["a"].replicas == 1
    assert status(here, "a") == "ready"
    here.shed("a")
    here.report("i1", queued=5)
    assert here.target["a"].replicas == 1, "not again at once"
    pass_time(here, KNOBS.cooldown_max_s)
    here.report("i1", queued=5)
    assert here.target["a"].replicas == 2


def test_rule_6_one_replica_that_fails_when_it_was_to_go_leaves_the_other_alone() -> None:
    """It was taken back for the model that waits; its failure changes nothing for the first one."""
    here = world(ModelSpec("a", 30, max_replicas=2), ModelSpec("b", 60))
    resident(here, "a")
    here.send("i1", "a")
    here.report("i1", queued=5)
    assert here.target["a"].replicas == 2, "the second one loads"
    here.ask("t", "b", 1000.0)
    assert here.target["a"].replicas == 1, "its place is wanted"
    here.fail("a", "no room")
    assert here.target["a"].replicas == 1
    assert status(here, "a") == "ready"
    assert here.scheduler.models["a"].failures == 0


def test_a_replica_that_is_killed_beside_others_is_no_failure() -> None:
    here = world(ModelSpec("a", 30, max_replicas=2))
    pair(here)
    here.crash("a")
    assert status(here, "a") == "ready"
    assert replicas(here, "a") == 1
    here.up("a")
    assert replicas(here, "a") == 2
    assert here.scheduler.models["a"].failures == 0


# -- hearsay -------------------------------------------------------------------------------------


def test_who_was_taken_for_dead_is_back_with_its_next_report() -> None:
    here = world()
    resident(here, "a")
    process = here.of("a")[0]
    here.doubt(process)
    assert status(here, "a") == "loading", "nothing is sent to it meanwhile"
    here.ask("t", "a", 1000.0)
    here.wait(2)
    here.reports("a")
    assert status(here, "a") == "ready"
    assert isinstance(here.answers["t"][0], Admitted)
    assert here.loads == ["a"]
    assert here.known["a"].load_s == 5.0, "that was no load"


def test_who_was_taken_for_dead_and_is_dead_has_crashed() -> None:
    here = world()
    resident(here, "a")
    here.doubt(here.of("a")[0])
    here.crash("a")
    assert here.scheduler.models["a"].failures == 1


# -- rules 3 and 7: ingresses that end and tell nobody ---------------------------------------------


def test_rule_7_a_silent_ingress_does_not_evict_a_busy_model_for_a_dead_client() -> None:
    here = World([A, B], NODE, KNOBS, ingresses=("i1", "i2"))
    resident(here, "a")
    here.send("i1", "a")
    here.deliver_all()
    here.ask("t", "b", 10_000.0, ingress="i2")
    here.ingress_falls_silent("i2")
    pass_time(here, 200)
    assert status(here, "a") == "ready"
    assert status(here, "b") == "unloaded"


def test_rule_3_an_ingress_that_never_reported_leaves_no_ticket() -> None:
    here = World([A, B], NODE, KNOBS, ingresses=("i1",))
    here.ask("t", "a", 10_000.0)
    here.ingress_falls_silent("i1")
    here.wait(KNOBS.ingress_timeout_s + 1)
    assert not here.scheduler.models["a"].tickets


# -- rule 9: restarts with many replicas -----------------------------------------------------------


def test_rule_9_a_new_director_keeps_every_replica() -> None:
    here = world(ModelSpec("a", 30, max_replicas=2))
    pair(here)
    here.restart()
    assert here.target["a"].replicas == 2
    assert replicas(here, "a") == 2


def test_rule_9_what_was_heard_before_all_was_seen_cuts_nothing() -> None:
    """A replica that reports first does not make the model one of a single replica."""
    scheduler = Scheduler([ModelSpec("a", 30, max_replicas=2)], NODE, KNOBS)
    effects = scheduler.handle(ev.Up("a", "a-1", 30, 1.0), 0.0)
    for replica in ("a-1", "a-2"):
        effects += scheduler.handle(ev.Observed("a", replica, "ready", 30), 0.0)
    assert not [e for e in effects if isinstance(e, Target)]
    effects = scheduler.handle(ev.Recovered(), 1.0)
    assert [e.replicas for e in effects if isinstance(e, Target)] == [2]


def test_rule_9_one_replica_that_drains_does_not_stop_the_others() -> None:
    scheduler = Scheduler([ModelSpec("a", 30, max_replicas=3)], NODE, KNOBS)
    for replica, state in (("a-1", "draining"), ("a-2", "ready"), ("a-3", "loading")):
        scheduler.handle(ev.Observed("a", replica, state, 30), 0.0)  # type: ignore[arg-type]
    effects = scheduler.handle(ev.Recovered(), 1.0)
    assert [e.replicas for e in effects if isinstance(e, Target)] == [2]
    assert scheduler.snapshot.ready() == {"a"}
    model = scheduler.models["a"]
    scheduler.handle(ev.Running("a", model.generation, ("a-2", "a-3")), 2.0)
    assert sorted(model.replicas) == ["a-2", "a-3"]
    assert len(model.shares) == 2


def test_rule_9_a_model_that_is_no_longer_configured_holds_its_memory_until_it_is_gone() -> None:
    scheduler = Scheduler([A], NODE, KNOBS)
    scheduler.handle(ev.Observed("old", "old-1", "ready", 60), 0.0)
    scheduler.handle(ev.Recovered(), 0.0)
    assert "old" not in scheduler.snapshot.ready()
    effects = scheduler.handle(ev.Request("t", "a", "i1", 1000.0), 1.0)
    assert not [e for e in effects if isinstance(e, Target)]
    generation = scheduler.models["old"].generation
    effects = scheduler.handle(ev.Running("old", generation), 2.0)
    assert [(e.model, e.replicas) for e in effects if isinstance(e, Target)] == [("a", 1)]
    assert "old" not in scheduler.models
