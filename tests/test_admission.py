"""How many sequences of a model all ingresses let in, without a cluster."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any

import pytest

from deployments.app.admission import Admission
from deployments.app.messages import SILENT_S
from llm_serve.config import ModelConfig
from llm_serve.errors import QueueFull
from llm_serve.residency import events as ev
from llm_serve.residency.ingresses import Ingresses

MODEL = ModelConfig(id="m", backend="echo", max_running=2, max_queued=3)


class _Told:
    """Ingresses that hear of each other as the director has it told."""

    def __init__(self, count: int) -> None:
        self.ingresses = Ingresses()
        self.admissions = [Admission(MODEL, count) for _ in range(count)]

    def report(self, number: int) -> None:
        now = time.monotonic()
        own = self.admissions[number]
        name = str(number)
        self.ingresses.report(ev.Usage(name, 1, {"m": own.use()}), now)
        own.hear(self.ingresses.others(name, now, SILENT_S).get("m"))

    def fill(self, stack: ExitStack, clock: Any) -> int:
        """Requests in turn, each reported where the ingress must; how many were let in."""
        places = 0
        for number in [0, 1, 1, 0, 1, 1, 1, 0] * 10:
            own = self.admissions[number]
            clock.now += 0.03
            try:
                stack.enter_context(own.place(1))
                places += 1
            except QueueFull:
                pass
            if own.must_report:
                self.report(number)
        return places


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    class Clock:
        now = 1000.0

    monkeypatch.setattr(time, "monotonic", lambda: Clock.now)
    return Clock


def _fill(stack: ExitStack, admission: Admission, sequences: int = 1) -> int:
    for count in range(1000):
        try:
            stack.enter_context(admission.place(sequences))
        except QueueFull:
            return count
    raise AssertionError("there is no end of it")


@pytest.mark.parametrize(("replicas", "places"), [(0, 5), (1, 5), (2, 7), (10, 23)])
def test_every_replica_that_is_up_has_its_places(replicas: int, places: int) -> None:
    admission = Admission(MODEL)
    admission.replicas = replicas
    with ExitStack() as stack:
        assert _fill(stack, admission) == places
    assert admission.taken == 0


def test_places_are_sequences() -> None:
    admission = Admission(MODEL)
    with ExitStack() as stack:
        assert _fill(stack, admission, 2) == 2
        assert _fill(stack, admission) == 1


def test_who_waits_for_a_load_has_a_place_and_is_no_work() -> None:
    admission = Admission(MODEL)
    with admission.place(4):
        assert (admission.running, admission.queued) == (0, 4)
        use = admission.use()
        assert (use.in_flight, use.queued, use.held) == (0, 0, 4)
        with admission.sent(4):
            assert (admission.running, admission.queued) == (2, 2)
            use = admission.use()
            assert (use.in_flight, use.queued, use.held) == (2, 2, 0)
        with pytest.raises(QueueFull), admission.place(2):
            pass
    assert (admission.running, admission.queued) == (0, 0)


def test_two_ingresses_share_one_bound(clock: Any) -> None:
    told = _Told(2)
    with ExitStack() as stack:
        assert 5 <= told.fill(stack, clock) <= 5 + 1
        for number in (0, 1):
            told.report(number)
        for admission in told.admissions:
            assert (admission.running, admission.queued) == (
                0,
                sum(a.taken for a in told.admissions),
            )
    for number in (0, 1, 0):
        told.report(number)
    assert told.admissions[0].queued == 0


def test_one_ingress_may_have_every_place_that_the_others_leave(clock: Any) -> None:
    told = _Told(2)
    told.report(0)
    told.report(1)
    with ExitStack() as stack:
        assert _fill(stack, told.admissions[0]) == 5
        assert told.admissions[0].must_report
        told.report(0)
        clock.now += 0.06
        assert told.admissions[1].must_report
        told.report(1)
        assert _fill(stack, told.admissions[1]) == 0


def test_an_ingress_that_is_gone_has_nothing(clock: Any) -> None:
    told = _Told(2)
    with ExitStack() as stack:
        _fill(stack, told.admissions[0])
        told.report(0)
        told.report(1)
        assert told.admissions[1].queued == 5
        clock.now += SILENT_S + 0.1
        assert told.admissions[1].queued == 0, "the director has not said so for long"
        told.report(1)
        assert told.admissions[1].queued == 0, "it reports no more"
        assert _fill(stack, told.admissions[1]) == 5
