"""Who may be in memory: rules 1 and 10.

The numbers are those of `llm_serve/residency/DESIGN.md`.
"""

from __future__ import annotations

import pytest

from llm_serve.residency import Knobs, Measurement, ModelSpec, Scheduler
from llm_serve.residency import events as ev
from llm_serve.residency.effects import Declined, Failed
from tests.residency.steps import KNOBS, NODE, come_up, pass_time, resident, world

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
    assert here.known["a"] == Measurement(60, 5.0)


def test_rule_1_who_overfills_a_bin_by_measurement_makes_room() -> None:
    scheduler = Scheduler([ModelSpec("a", 50), ModelSpec("b", 50)], NODE, KNOBS)
    scheduler.handle(ev.Recovered(), 0)
    for name in "ab":
        scheduler.handle(ev.Load(name, name), 0)
    scheduler.handle(ev.Up("a", "a-1", 50, 1), 1)
    scheduler.handle(ev.Up("b", "b-1", 90, 1), 2)
    assert len(scheduler.snapshot.ready()) == 2, "it does run"
    scheduler.handle(ev.Tick(), 60)
    assert len(scheduler.snapshot.ready()) == 1


def test_rule_1_an_estimate_is_corrected_once_the_files_are_there() -> None:
    here = world(ModelSpec("a", 4), ModelSpec("b", 50), ModelSpec("c", 50))
    here.ask("t", "a", 1000.0)
    here.estimated("a", 60)
    here.ask("u", "b", 1000.0)
    assert here.loads == ["a"], "60 and 50 do not fit, whatever was thought before"
    here.estimated("a", 10)
    assert here.loads == ["a", "b"]


def test_rule_1_who_overfills_a_bin_by_estimate_makes_room() -> None:
    here = world(ModelSpec("a", 50), ModelSpec("b", 4), ModelSpec("c", 4))
    resident(here, "a")
    here.ask("t", "b", 1000.0)
    here.wait(1)
    here.estimated("b", 60)
    here.ask("u", "c", 1000.0)
    assert here.loads == ["a", "b"], "nothing new goes there"
    here.deliver_all()
    assert here.target["a"].replicas == 0, "it is idle, and the bin holds too much"
    here.gone("a")
    assert here.loads == ["a", "b", "c"]


def test_rule_1_what_was_measured_or_declared_outlasts_an_estimate() -> None:
    here = world(ModelSpec("a", 60, max_replicas=2), ModelSpec("b", 30, declared=30))
    here.scheduler.models["a"].measured = True
    here.ask("t", "a", 1000.0)
    here.estimated("a", 4)
    assert here.scheduler.models["a"].footprint == 60
    here.ask("u", "b", 1000.0)
    here.estimated("b", 4)
    assert here.scheduler.models["b"].footprint == 30


def test_rule_1_what_turns_out_never_to_fit_is_said_before_it_fills_the_memory() -> None:
    here = world(ModelSpec("a", 4), ModelSpec("b", 60))
    here.ask("t", "a", 1000.0)
    here.estimated("a", 101)
    answer = here.answers["t"][0]
    assert isinstance(answer, Failed)
    assert "can be freed" in answer.reason
    assert here.target["a"].replicas == 0
    here.gone("a")
    here.ask("u", "b", 1000.0)
    assert here.loads == ["a", "b"], "nobody else is disturbed"


def test_rule_1_bins_of_one_node_and_whole_bins() -> None:
    bins = {"n1/g0": 100, "n2/g0": 100, "n2/g1": 100}
    here = world(ModelSpec("x", 10, fraction=1.0), ModelSpec("d", 150, bins=2), bins=bins)
    here.ask("t", "d", 1000.0)
    assert here.of("d")[0].bins == ("n2/g0", "n2/g1")
    here.ask("u", "x", 1000.0)
    assert here.of("x")[0].bins == ("n1/g0",)


def test_rule_1_parts_of_an_accelerator() -> None:
    """As Ray counts num_gpus: two halves are a whole, however little memory they take."""
    here = world(*(ModelSpec(n, 1, fraction=0.5) for n in "abc"), bins={"n": 100, "n/g0": 100})
    for name in "abc":
        here.ask(name, name, 1000.0)
    assert here.loads == ["a", "b"]


def test_rule_1_a_part_takes_what_it_was_measured_at() -> None:
    here = world(
        ModelSpec("a", 70, fraction=0.2), ModelSpec("b", 40, fraction=0.2), bins={"n/g": 100}
    )
    here.ask("t", "a", 1000.0)
    here.ask("u", "b", 1000.0)
    assert here.loads == ["a"]


def test_rule_1_accelerators_and_nodes_are_counted_at_the_same_time() -> None:
    specs = ModelSpec("host", 60), ModelSpec("gpu", 60, fraction=1.0), ModelSpec("host2", 60)
    here = world(*specs, bins={"n": 100, "n/g0": 100})
    for name in ("host", "gpu", "host2"):
        here.ask(name, name, 1000.0)
    assert here.loads == ["host", "gpu"]
    assert here.of("host")[0].bins == ("n",)
    assert here.of("gpu")[0].bins == ("n/g0",)


def test_rule_1_without_an_accelerator_it_is_said_until_one_comes() -> None:
    here = world(ModelSpec("a", 1, fraction=1.0))
    here.ask("t", "a", 1000.0)
    answer = here.answers["t"][0]
    assert isinstance(answer, Failed)
    assert "no node has one" in answer.reason
    here.capacity = {"n": 100, "n2/g0": 100}
    here.tell(ev.Capacity(here.capacity))
    here.wait(KNOBS.cooldown_s)
    here.ask("u", "a", 1000.0)
    assert here.loads == ["a"]


def test_rule_1_what_was_declared_holds_whatever_was_measured() -> None:
    spec = ModelSpec("a", 60, declared=60)
    scheduler = Scheduler([spec], NODE, KNOBS, known={"a": Measurement(10, 1.0)})
    assert scheduler.models["a"].footprint == 60
    scheduler.handle(ev.Recovered(), 0)
    scheduler.handle(ev.Load("t", "a"), 0)
    scheduler.handle(ev.Up("a", "a-1", 10, 1.0), 1)
    assert scheduler.models["a"].footprint == 60


def test_rule_1_what_can_never_fit_is_said_at_once() -> None:
    whole = ModelSpec("d", 1, fraction=1.0)
    specs = ModelSpec("a", 60, fraction=0.1, pinned=True), ModelSpec("b", 101), ModelSpec("c", 60)
    here = world(*specs, whole, bins={"n": 50, "n/g0": 100})
    come_up(here, "a")
    here.ask("t", "b", 1000.0)
    here.ask("u", "c")
    here.ask("v", "d")
    reasons = [answer.reason for t in "tuv" if isinstance(answer := here.answers[t][0], Failed)]
    for reason, needed in zip(
        reasons, ("0.0 GiB on one node", "0.0 GiB on one node", "a whole accelerator"), strict=True
    ):
        assert f"needs {needed}; at most 0.0 GiB can be freed beside the" in reason


@pytest.mark.parametrize(
    ("spec", "bins", "said"),
    [
        (ModelSpec("a", 2 * 2**30), {"n": 2**30}, "2.0 GiB on one node; at most 1.0 GiB can be"),
        (ModelSpec("a", 1, bins=2), {"n/g0": 9, "m/g0": 9}, "2 accelerators of one node, and no"),
        (
            ModelSpec("a", 4 * 2**30, bins=2),
            {"n/g0": 2**30, "n/g1": 2**31},
            "2.0 GiB on one accelerator, and 2 of them on one node; at most 2.0 GiB can be freed",
        ),
    ],
)
def test_rule_1_the_reason_says_what_is_short(
    spec: ModelSpec, bins: dict[str, int], said: str
) -> None:
    here = world(spec, bins=bins)
    here.ask("t", "a")
    answer = here.answers["t"][0]
    assert isinstance(answer, Failed)
    assert said in answer.reason
    assert "pinned" not in answer.reason


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
    assert isinstance(here.answers["u"][0], Declined)


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
    assert here.scheduler.snapshot.state == "starting"
    here.up("a")
    assert here.scheduler.snapshot.state == "starting"
    here.up("b")
    assert here.scheduler.snapshot.state == "ok"
