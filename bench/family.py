"""The processes of one running `llm-serve`, by what they do; what the faults are thrown at."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil

from deployments.app.names import model_of
from deployments.schema import APPLICATION

MODEL, INGRESS, DIRECTOR = "model replica", "ingress", "director"
CONTROLLER, PROXY = "Serve controller", "ProxyActor"
HAPROXY, MANAGER = "HAProxy", "HAProxyManager"
DASHBOARD, AGENT, RUNTIME_ENV = "dashboard", "dashboard agent", "runtime-env agent"
RAYLET, GCS, LOG_MONITOR = "raylet", "GCS", "log monitor"
OWN = "own: "
"""Before the module or the file of a process of ours that is none of Ray's."""

ROLES = (MODEL, INGRESS, DIRECTOR, CONTROLLER, PROXY, HAPROXY, MANAGER)
ROLES += (DASHBOARD, AGENT, RUNTIME_ENV, RAYLET, GCS, LOG_MONITOR)
_TITLES = {
    INGRESS: (
        f"ray::ServeReplica:{APPLICATION}:Ingress",
        f"ray::SERVE_REPLICA::{APPLICATION}#Ingress",
        "ray::Ingress.",
    ),
    DIRECTOR: ("ray::Director",),
    CONTROLLER: ("ray::ServeController",),
    PROXY: ("ray::ProxyActor",),
    MANAGER: ("ray::HAProxyManager",),
    AGENT: ("ray::DashboardAgent",),
    RUNTIME_ENV: ("ray::RuntimeEnvAgent",),
}
_NAMES = {"haproxy": HAPROXY, "raylet": RAYLET, "gcs_server": GCS}
_FILES = {"dashboard.py": DASHBOARD, "log_monitor.py": LOG_MONITOR}
_PACKAGES = ("deployments", "llm_serve")


def role_of(process: psutil.Process) -> str | None:
    """What the process is, from its title or command line; None where that says nothing."""
    words = process.cmdline()
    if not words:
        return None
    title = words[0].strip()
    if model_in(title) is not None:
        return MODEL
    for role, prefixes in _TITLES.items():
        if title.startswith(prefixes):
            return role
    if role := _NAMES.get(Path(title).name):
        return role
    for word in words[:4]:
        if role := _FILES.get(Path(word).name):
            return role
    if "-m" in words[:4]:
        module = words[words.index("-m") + 1]
        if module.split(".")[0] in _PACKAGES:
            return OWN + module
    return None


def model_in(title: str) -> str | None:
    """The model of a replica, from the title of its process: Ray writes it in two ways."""
    for prefix, end in (
        (f"ray::ServeReplica:{APPLICATION}:Model.", "."),
        (f"ray::SERVE_REPLICA::{APPLICATION}#Model.", "#"),
    ):
        if title.startswith(prefix):
            return model_of("Model." + title.removeprefix(prefix).split(end)[0])
    return None


class Family:
    """The processes below one `llm-serve`, and never another's.

    A process keeps the role in which it was first seen: Ray changes the title of a worker while one
    of its methods runs. All that was ever seen is remembered, so that it can be ended.
    """

    def __init__(self, root: int) -> None:
        self.root = psutil.Process(root)
        self._roles: dict[psutil.Process, str] = {}
        self._models: dict[psutil.Process, str | None] = {}
        self._seen: set[psutil.Process] = {self.root}

    def look(self) -> dict[str, list[psutil.Process]]:
        """Every living process that has a role."""
        found: dict[str, list[psutil.Process]] = {}
        for process in self.alive():
            role = self._roles.get(process)
            if role is None:
                with suppress(psutil.Error, IndexError):
                    role = role_of(process)
                    if role == MODEL:
                        self._models[process] = model_in(process.cmdline()[0].strip())
            if role is not None:
                self._roles[process] = role
                found.setdefault(role, []).append(process)
        for role, process in self._between(found):
            found.setdefault(role, []).append(process)
        return found

    def of(self, role: str) -> list[psutil.Process]:
        return self.look().get(role, [])

    def replicas(self, model: str) -> list[psutil.Process]:
        """Those of one model."""
        return [process for process in self.of(MODEL) if self._models.get(process) == model]

    def below(self, process: psutil.Process) -> set[str]:
        """What the process is, and what runs below it: all that ends with it."""
        family = {process}
        with suppress(psutil.Error):
            family |= set(process.children(recursive=True))
        return {role for role, found in self.look().items() if not family.isdisjoint(found)}

    def alive(self) -> list[psutil.Process]:
        """All below `llm-serve` that run, zombies left out."""
        below = []
        with suppress(psutil.Error):
            below = self.root.children(recursive=True)
        self._seen |= set(below)
        return [process for process in below if _runs(process)]

    def seen(self) -> set[psutil.Process]:
        """Every process that this server ever had, as far as somebody looked."""
        self.alive()
        return self._seen

    def left(self, timeout_s: float) -> list[psutil.Process]:
        """Which of them still run after so long."""
        deadline = time.monotonic() + timeout_s
        while True:
            left = [process for process in self.seen() if _runs(process)]
            if not left or time.monotonic() > deadline:
                return left
            time.sleep(0.1)

    def end(self) -> None:
        """Kills what is left of it."""
        for process in self.seen():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(list(self._seen), timeout=10)

    def _between(
        self, found: dict[str, list[psutil.Process]]
    ) -> Iterable[tuple[str, psutil.Process]]:
        """What stands between `llm-serve` and Ray or HAProxy, and has no other name."""
        named = {process for processes in found.values() for process in processes}
        for role in (GCS, RAYLET, HAPROXY):
            for process in found.get(role, []):
                parents: list[psutil.Process] = []
                with suppress(psutil.Error):
                    parents = process.parents()
                if self.root not in parents:
                    continue
                for parent in parents[: parents.index(self.root)]:
                    if parent not in named:
                        named.add(parent)
                        yield f"{OWN}child of llm-serve", parent


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
