"""The simulation of `bench/residency_sim.py`, some hours of it: deterministic, and worth having."""

from __future__ import annotations

import random
import runpy
from pathlib import Path
from typing import Any

import pytest

SIM: dict[str, Any] = runpy.run_path(
    str(Path(__file__).parents[2] / "bench" / "residency_sim.py"), run_name="sim"
)


def day(name: str) -> Any:
    specs = SIM["make_models"](random.Random(7))
    sessions = SIM["make_sessions"](random.Random(8), 4.0, 3.0)
    return SIM["World"](specs, SIM["strategies"]()[name]).run(sessions)


@pytest.mark.long
def test_fewer_switches_and_shorter_waits_than_fifo_and_lru() -> None:
    ours, again = day("ours"), day("ours")
    assert (ours.loads, ours.waits) == (again.loads, again.waits)
    for name in ("FIFO", "LRU"):
        other = day(name)
        assert other.requests == ours.requests == len(ours.waits)
        assert ours.loads < other.loads
        assert SIM["quantile"](ours.waits, 0.99) < SIM["quantile"](other.waits, 0.99)
    assert max(ours.waits) < SIM["KNOBS"].max_wait_s + 60
