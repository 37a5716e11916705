"""Why a process ended: what Ray says, what the kernel counted, and else that nobody knows."""

from __future__ import annotations

import asyncio

import pytest

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray's import of itself


def test_rays_memory_monitor_gives_the_figures() -> None:
    from deployments.cluster.deaths import of_ray

    said = "... Memory on the node (IP: 10.0.0.1, ID: ab) was 30.38GB used / 32.00GB limit (0.95)"
    reason = of_ray(said)
    assert reason is not None
    assert "ran out of memory (30.4 of 32.0 GiB were used)" in reason
    assert "footprint_gb" in reason
    assert of_ray("The actor died unexpectedly before finishing this task.") is None


def test_the_kernels_count_must_have_grown_on_the_same_node() -> None:
    from deployments.cluster.deaths import NodeMemory, of_the_kernel

    gib = 2**30
    last = NodeMemory("n", 7 * gib, 8 * gib, 3)
    assert of_the_kernel(last, [NodeMemory("n", gib, 8 * gib, 3)]) is None
    assert of_the_kernel(last, [NodeMemory("m", gib, 8 * gib, 4)]) is None
    assert of_the_kernel(None, [NodeMemory("n", gib, 8 * gib, 4)]) is None
    reason = of_the_kernel(last, [NodeMemory("n", gib, 8 * gib, 4)])
    assert reason is not None
    assert "7.0 of 8.0 GiB were used" in reason


def test_a_look_has_this_machines_memory() -> None:
    from deployments.cluster.deaths import look

    seen = look("n")
    assert 0 < seen.used < seen.total
    assert seen.kills >= 0


def test_else_it_ended_unexpectedly() -> None:
    from deployments.cluster.deaths import ENDED, reason

    assert asyncio.run(reason(None, None, [])) == ENDED
