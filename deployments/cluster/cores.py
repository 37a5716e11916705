"""Engines come first on the cores of a node; what only coordinates takes what they leave.

Ray's and our own housekeeping wakes up all the time, and on a machine that computes on its cores
each wake-up takes one from an engine. So a replica that has loaded its model

- lowers the priority of the control plane: a niceness of 10 gave 2 to 6 % more tokens/s on 2 cores
  (vLLM, 1 and 8 clients);
- where its engine has bound threads to cores, as vLLM does on a CPU (it spares one), keeps all
  else off those cores, and makes it SCHED_BATCH: on the core that is left, a process that has
  something to pass on waits until vLLM's scheduler yields. Of the tokens/s of vLLM's own server,
  with which it took turns of seconds (2 cores, 1 and 8 streams; once, by a script that is not
  kept), 0.93 and 0.93 came without either, 0.96 and 1.01 with the cores kept free, and 1.01 and
  1.03 with both; `bench.vllm` measures the whole. Only where at least a quarter of the cores is
  left, which is a guess: vLLM spares one of 64 as well, and all else would wait for that one.

Where no engine binds threads (on a GPU, or the transformers backend) everybody may run everywhere.
Nothing is done to the raylet: what it starts inherits all of this, and without root nobody can be
less nice again.

Nor is anything done to processes of others, which may well stand beside ours and have the same
names: only to what runs under our raylet, what names its session, and what serves from our folder.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import psutil

NICENESS = 10
_SHARE_LEFT = 0.25
_CONTROL_TITLES = (
    "ray::ServeController",
    "ray::Director",
    "ray::DashboardAgent",
    "ray::RuntimeEnvAgent",
)
_CONTROL_PARTS = ("gcs_server", "dashboard.py", "log_monitor.py", "monitor.py")
_SESSION = re.compile(r"(?:^|[=/])(session_[\w.-]+)(?=/|$)")
"""Ray's name of one start, alone or in a path: `--session-dir=/tmp/ray/session_2026-...`."""
FOLDER = "LLM_SERVE_FOLDER"
_SERVING_TITLES = ("ray::HAProxyManager", "ray::ProxyActor")


def settle() -> None:
    """To be called in a replica whose engine is up. Never raises: it is a matter of speed alone."""
    if sys.platform != "linux":
        return
    with suppress(psutil.Error, OSError):
        me = psutil.Process()
        raylet = me.parent()
        if raylet is None or raylet.name() != "raylet":
            return
        allowed = frozenset(raylet.cpu_affinity() or ())
        engine = {p: _bound_cores(p, allowed) for p in me.children(recursive=True)}
        bound = frozenset[int]().union(*engine.values())
        place = beside(bound, allowed)
        place.take(me)
        for process in [p for p, cores in engine.items() if not cores]:
            place._replace(policy=os.SCHED_OTHER).take(process)
        for process in _of_node(raylet):
            with suppress(psutil.Error, OSError):
                _settle(process, place)


class CpuPlace(NamedTuple):
    """Where a process may run, and how."""

    cores: frozenset[int]
    policy: int

    def take(self, process: psutil.Process) -> None:
        """Moves every thread of the process."""
        now = CpuPlace(
            frozenset(os.sched_getaffinity(process.pid)), os.sched_getscheduler(process.pid)
        )
        for thread in process.threads() if now != self else ():
            with suppress(OSError):  # threads end
                os.sched_setaffinity(thread.id, self.cores)
                os.sched_setscheduler(thread.id, self.policy, os.sched_param(0))


def beside(bound: frozenset[int], allowed: frozenset[int]) -> CpuPlace:
    """Where everything else may run when an engine has bound threads to the cores `bound`."""
    left = allowed - bound
    if not bound or len(left) < _SHARE_LEFT * len(allowed):
        return CpuPlace(allowed, os.SCHED_OTHER)
    return CpuPlace(left, os.SCHED_BATCH)


def _settle(process: psutil.Process, place: CpuPlace) -> None:
    control = is_control_plane(process)
    if control and process.nice() != NICENESS:
        for thread in process.threads():
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, thread.id, NICENESS)
    if control or _is_serving(process):
        place.take(process)


def is_control_plane(process: psutil.Process) -> bool:
    """Raises psutil.Error where the process is gone."""
    words = process.cmdline()
    if not words:
        return False
    names = {Path(word).name for word in words[:4]}
    return words[0].startswith(_CONTROL_TITLES) or not names.isdisjoint(_CONTROL_PARTS)


def _is_serving(process: psutil.Process) -> bool:
    """Ingress replicas, Ray's proxies and HAProxy."""
    words = process.cmdline()
    if not words:
        return False
    ingress = words[0].startswith("ray::ServeReplica:") and ":Ingress" in words[0]
    return ingress or words[0].startswith(_SERVING_TITLES) or Path(words[0]).name == "haproxy"


def _of_node(raylet: psutil.Process) -> Iterator[psutil.Process]:
    """What is surely ours on this node: under the raylet, of its session, or our HAProxy."""
    yield from raylet.children(recursive=True)
    sessions = _sessions(raylet.cmdline())
    folder = os.environ.get(FOLDER)
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.uids().real == os.getuid():
                words = process.cmdline()
                if sessions & _sessions(words) or (folder and _serves_from(words, Path(folder))):
                    yield process


def _sessions(words: list[str]) -> set[str]:
    """The sessions of Ray's that a command is for, by its options; who only reads a session's files
    names them without one."""
    options = (word for word in words[1:] if word.startswith("--"))
    return {name for option in options for name in _SESSION.findall(option)}


def _serves_from(words: list[str], folder: Path) -> bool:
    """Whether it is HAProxy with its configuration in `folder`."""
    files = [Path(file) for flag, file in pairwise(words) if flag == "-f"]
    return Path(words[0] if words else "").name == "haproxy" and any(
        folder in file.parents for file in files
    )


def _bound_cores(process: psutil.Process, allowed: frozenset[int]) -> frozenset[int]:
    """The cores that threads of the process are bound to, if they are."""
    found: set[int] = set()
    with suppress(psutil.Error, OSError):
        for thread in process.threads():
            cores = os.sched_getaffinity(thread.id)
            if cores < allowed:
                found |= cores
    return frozenset(found)
