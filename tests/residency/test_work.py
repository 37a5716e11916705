"""Requests end once, and work in flight ends whole: rules 2, 3 and 8.

The numbers are those of `llm_serve/residency/DESIGN.md`.
"""

from __future__ import annotations

from llm_serve.residency import ModelSpec
from llm_serve.residency import events as ev
from llm_serve.residency.effects import Accepted, Admitted, Declined, Expired, Kill
from tests.residency.steps import KNOBS, NODE, A, B, come_up, pass_time, resident, status, world
from tests.residency.world import World

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
    assert isinstance(here.answers["t"][0], Declined)
    assert isinstance(here.answers["u"][0], Declined)
    assert here.scheduler.snapshot.state == "draining"


def test_rule_3_too_many_switches_in_line() -> None:
    here = world(*(ModelSpec(n, 60) for n in "abcdef"))
    for name in "abcd":
        here.ask(name, name)
    here.ask("e", "e")
    here.ask("again", "d")
    assert isinstance(here.answers["e"][0], Declined)
    answer = here.answers["again"][0]
    assert isinstance(answer, Accepted)
    assert (answer.loading.model.position, answer.loading.retry_after_s) == (3, 2)


# -- rule 8: nothing to a leaving model ----------------------------------------------------------


def test_rule_8_the_target_falls_only_when_every_ingress_knows() -> None:
    here = World([A, B], NODE, KNOBS, ingresses=("i1", "i2"))
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
    here = World([A, B], NODE, KNOBS, ingresses=("i1", "i2"))
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
