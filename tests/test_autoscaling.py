"""How many replicas the policy asks for within a grant."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray's import of itself


def requests(count: int) -> Any:
    config = SimpleNamespace(get_target_ongoing_requests=lambda: 4.0)
    return SimpleNamespace(config=config, total_num_requests=float(count))


def test_more_at_once_and_fewer_after_a_while() -> None:
    """Late figures swing around the bound between two replicas: the second one does not flap."""
    from deployments.autoscaling import HOLD_S, Held

    held = Held()
    assert held.within("a", 3, requests(1), 0.0) == 1
    assert held.within("a", 3, requests(9), 1.0) == 3
    for second in range(2, 30):
        assert held.within("a", 3, requests(second % 2 * 5), float(second)) == 3
    assert held.within("a", 3, requests(1), 1.5 + HOLD_S) == 2, "as many as were wanted since"
    assert held.within("a", 3, requests(1), 30.0 + HOLD_S) == 1


def test_never_more_than_is_granted() -> None:
    from deployments.autoscaling import Held

    held = Held()
    assert held.within("a", 0, requests(9), 0.0) == 0
    assert held.within("a", 1, requests(9), 1.0) == 1
    assert held.within("a", 2, requests(0), 2.0) == 2, "what was wanted before the grant counts"
