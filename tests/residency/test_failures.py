"""Models that fail and directors that restart: rules 6 and 9.

The numbers are those of `llm_serve/residency/DESIGN.md`.
"""

from __future__ import annotations

from llm_serve.residency import ModelSpec
from llm_serve.residency import events as ev
from llm_serve.residency.effects import Admitted, Failed
from tests.residency.steps import KNOBS, NODE, A, B, come_up, resident, status, world
from tests.residency.world import World

# -- rule 6: failures ----------------------------------------------------------------------------


def test_rule_6_reason_share_cooldown_and_nobody_else() -> None:
    here = world(ModelSpec("a", 60), ModelSpec("ok", 30))
    resident(here, "ok")
    here.ask("t", "a", 1000.0)
    here.fail("a", "the file is truncated")
    answer = here.answers["t"][0]
    assert isinstance(answer, Failed)
    assert answer.reason == "the file is truncated"
    assert here.scheduler.snapshot.state == "degraded"
    assert status(here, "a") == "failed"
    assert here.scheduler.snapshot.ready() == {"ok"}
    here.gone("a")
    here.ask("u", "a", 1000.0)
    assert isinstance(here.answers["u"][0], Failed), "cooling down"
    here.wait(KNOBS.cooldown_s)
    assert here.scheduler.snapshot.state == "ok"
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
    here = World([A, B], NODE, KNOBS, recovered=False)
    here.ask("t", "a", 1000.0)
    here.wait(5)
    assert not here.loads
    assert here.scheduler.snapshot.state == "starting"
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
