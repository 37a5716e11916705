"""The control plane yields the cores to the engines.

Ray's and our own housekeeping wakes up all the time, and on a machine that computes on its cores
each wake-up takes one from an engine. A niceness of 10 gave 2 to 6 % more tokens/s on 2 cores
(vLLM, 1 and 8 clients). Not the raylet and not HAProxy's manager: what they start inherits it, and
without root nobody can be less nice again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil

NICENESS = 10
_TITLES = (
    "ray::ServeController",
    "ray::Director",
    "ray::DashboardAgent",
    "ray::RuntimeEnvAgent",
)
_PARTS = ("gcs_server", "dashboard.py", "log_monitor.py", "monitor.py")


def yield_cores(processes: Iterable[psutil.Process]) -> None:
    """Lowers the priority of every thread of the control plane among these processes. Never
    raises: it is a matter of speed alone."""
    for process in processes:
        with suppress(psutil.Error, OSError):
            if is_control_plane(process):
                for thread in process.threads():
                    os.setpriority(os.PRIO_PROCESS, thread.id, NICENESS)


def is_control_plane(process: psutil.Process) -> bool:
    """Raises psutil.Error where the process is gone."""
    words = process.cmdline()
    if not words:
        return False
    names = {Path(word).name for word in words[:4]}
    return words[0].startswith(_TITLES) or not names.isdisjoint(_PARTS)
