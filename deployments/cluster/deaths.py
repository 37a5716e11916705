"""Why a replica's process ended, as far as anybody knows: killed for memory, and with what figures.

Ray's memory monitor says so in the error of a call to the dead actor. The kernel says so only by a
count of its own, which grew between two looks at the same node.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import ray
from ray.exceptions import RayError

ENDED = "its process ended unexpectedly"
REMEDY = (
    "declare what it takes (footprint_gb), leave more to others (residency.memory_gb), "
    "or choose a smaller model"
)
_ANSWER_S = 2.0
_RAYS = re.compile(r"was ([0-9.]+) ?GB used / ([0-9.]+) ?GB")
_COUNTERS = (
    (Path("/proc/vmstat"), "oom_kill"),
    (Path("/sys/fs/cgroup/memory.events"), "oom_kill"),
    (Path("/sys/fs/cgroup/memory/memory.oom_control"), "oom_kill"),
)


@dataclass(frozen=True, slots=True)
class NodeMemory:
    """One look at a node's memory, in bytes. `kills`: processes that its kernel ended for it."""

    node: str
    used: int
    total: int
    kills: int


def look(node: str) -> NodeMemory:
    """At the node of the process that asks."""
    memory = psutil.virtual_memory()
    kills = sum(_count(file, name) for file, name in _COUNTERS)
    return NodeMemory(node, memory.total - memory.available, memory.total, kills)


def _count(file: Path, name: str) -> int:
    with suppress(OSError, ValueError):
        for line in file.read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    return 0


async def reason(actor: Any, last: NodeMemory | None, later: Iterable[NodeMemory]) -> str:
    """A sentence for the person. `last`: the node when the process was last heard; `later`: looks
    of others since then."""
    said = await _rays_word(actor) if actor is not None else ""
    return of_ray(said) or of_the_kernel(last, later) or ENDED


async def _rays_word(actor: Any) -> str:
    try:
        async with asyncio.timeout(_ANSWER_S):
            await actor.check_health.remote()
    except (RayError, TimeoutError) as error:
        return str(error)
    return ""


def of_ray(said: str) -> str | None:
    """From the error that Ray raises for a dead actor."""
    figures = _RAYS.search(said)
    if figures is None:
        return None
    used, total = (float(text) for text in figures.groups())
    return _killed(f"{used:.1f} of {total:.1f} GiB were used")


def of_the_kernel(last: NodeMemory | None, later: Iterable[NodeMemory]) -> str | None:
    """From the kernel's count of processes that it ended."""
    if last is None or not any(m.node == last.node and m.kills > last.kills for m in later):
        return None
    gib = 2**30
    return _killed(
        f"{last.used / gib:.1f} of {last.total / gib:.1f} GiB were used when it was last heard"
    )


def _killed(figures: str) -> str:
    return f"its process was killed because its node ran out of memory ({figures}); {REMEDY}"


def here() -> str:
    """The node of the process that asks."""
    return str(ray.get_runtime_context().get_node_id())
