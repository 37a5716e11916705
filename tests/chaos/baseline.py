"""What a server at rest has, and what is more than that later."""

from __future__ import annotations

from collections import Counter

import psutil

from bench.family import LOG_MONITOR, Family, role_of
from tests.support.whole import Whole

SPARE_DESCRIPTORS = 40
SPARE_LOGS = 200
"""Ray's log monitor keeps as many logs open, those of processes that have ended too."""
SPARE_FILES = 26
"""The door keeps eight configurations of HAProxy with their logs, and Ray's manager ten logs."""


class Baseline:
    """What a server at rest has: processes by kind, open descriptors by kind, files."""

    def __init__(self, server: Whole) -> None:
        self.kinds, self.descriptors = _processes(server.family)
        self.files = server.files()
        self.folders = len(server.own_folders())

    def grown(self, server: Whole) -> list[str]:
        """What is more than it was."""
        now = Baseline(server)
        more = [
            f"{count} processes {kind}, {self.kinds[kind]} at the start"
            for kind, count in now.kinds.items()
            if count > self.kinds[kind]
        ]
        for kind, count in now.descriptors.items():
            before = self.descriptors.get(kind, 0)
            spare = SPARE_LOGS if kind == LOG_MONITOR else before / 4 + SPARE_DESCRIPTORS
            if count > before + spare:
                more.append(f"{kind} has {count} descriptors, {before} at the start")
        if now.folders > self.folders:
            more.append(f"{now.folders} folders, {self.folders} at the start")
        if len(now.files) > len(self.files) + SPARE_FILES:
            more.append(f"new temporary files: {sorted(now.files - self.files)[:40]}")
        return more


def _processes(family: Family) -> tuple[Counter[str], dict[str, int]]:
    """How many there are of each kind, and the most descriptors that one of a kind has open.

    Ray keeps idle workers as it likes, up to one a core.
    """
    kinds: Counter[str] = Counter()
    descriptors: dict[str, int] = {}
    roles = {p: role for role, found in family.look().items() for p in found}
    for process in [family.root, *family.alive()]:
        try:
            role = roles.get(process) or role_of(process)
            kind = role or process.cmdline()[0].split("(")[0].strip()
            open_now = process.num_fds()
        except (psutil.Error, IndexError):
            continue
        if kind.startswith("ray::IDLE"):
            continue
        kinds[kind] += 1
        if role or process == family.root:
            descriptors[kind] = max(descriptors.get(kind, 0), open_now)
    return kinds, descriptors
