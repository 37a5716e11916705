"""The processes that this one started, down to the last grandchild, and how they are ended."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterable

import psutil

_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Makes processes whose parent dies ours, so that nothing we started can get out of sight."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def descendants() -> list[psutil.Process]:
    """All that this process started and that still runs. Only ours can be in it."""
    return psutil.Process().children(recursive=True)


def is_haproxy(process: psutil.Process) -> bool:
    """Whether the process is HAProxy, which belongs to the door and ends with it."""
    try:
        return process.name() == "haproxy"
    except psutil.Error:
        return False


def lives(process: psutil.Process) -> bool:
    """Whether the process still runs; one that has ended and was not waited for does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def end(processes: Iterable[psutil.Process], grace_s: float) -> None:
    """Waits `grace_s` for them to end by themselves, then kills those that did not.

    A psutil.Process is a pid and its start time: a pid that was given to another process since
    is left alone.
    """
    _, left = psutil.wait_procs(list(processes), timeout=grace_s)
    for process in left:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(left, timeout=2)


def end_all(grace_s: float = 0.0) -> None:
    """Ends every descendant, those included that appear meanwhile."""
    end(descendants(), grace_s)
    while left := [p for p in descendants() if lives(p)]:
        end(left, 0)
