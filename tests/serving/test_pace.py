"""How long a refused request is told to stay away, without a cluster."""

from __future__ import annotations

import time
from contextlib import ExitStack

import pytest

from deployments.app.admission import Admission
from llm_serve.config import ModelConfig


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)

    def passes(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize("pause", [0.0, 3600.0])
def test_pauses_between_bursts_do_not_count(monkeypatch: pytest.MonkeyPatch, pause: float) -> None:
    clock = Clock(monkeypatch)
    admission = Admission(ModelConfig(id="m", backend="echo", max_running=1, max_queued=8))
    assert admission.retry_after_s(clock.now) == 5
    for _ in range(4):  # an answer every two seconds
        with admission.place(1), admission.sent(1):
            clock.passes(2)
        clock.passes(pause)
    with ExitStack() as waiting:
        for _ in range(4):
            waiting.enter_context(admission.place(1))
            waiting.enter_context(admission.sent(1))
        assert admission.retry_after_s(clock.now) == 3 * 2
        clock.passes(2)
        assert admission.retry_after_s(clock.now) == 8  # nothing ended: slower than it was
