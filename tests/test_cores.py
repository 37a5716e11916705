"""Who gives way to an engine that has bound its threads to cores."""

from __future__ import annotations

import os
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux has these calls")


@pytest.mark.parametrize(
    ("cores", "bound", "left", "waits"),
    [
        (2, {0}, {1}, True),
        (4, {0, 1, 2}, {3}, True),
        (8, set(range(7)), set(range(8)), False),
        (2, {0, 1}, {0, 1}, False),
        (2, set(), {0, 1}, False),
    ],
)
def test_all_else_keeps_off_its_cores_where_enough_are_left(
    cores: int, bound: set[int], left: set[int], waits: bool
) -> None:
    from deployments.cores import beside

    place = beside(frozenset(bound), frozenset(range(cores)))
    assert place.cores == left
    assert place.policy == (os.SCHED_BATCH if waits else os.SCHED_OTHER)
