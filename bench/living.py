"""The server of a row of `bench.faults`: its start, its recovery, its end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from bench.family import OWN, RAYLET, Family
from bench.servers import llm_serve, started
from bench.steady import question
from llm_serve.config import default_config

RECOVERY_S = 60.0
SLOW = "echo/slow"
"""A model whose streams last."""


@dataclass
class Live:
    """A server that serves, and how long that took."""

    url: str
    family: Family
    start_s: float
    baseline: dict[str, int]
    rays: frozenset[str]
    """What of ours has Ray below it, so that Ray is started again when it dies."""
    model: str
    """Which one the probes ask for."""


def models(*, real: bool) -> list[dict[str, Any]]:
    """The first answers the probes."""
    echo = [{"id": f"echo/{name}", "backend": "echo", "preload": True} for name in "abc"]
    slow = {"id": SLOW, "backend": "echo", "engine": {"token_s": 0.05}, "preload": True}
    if not real:
        return [*echo, slow]
    default = default_config().default_model.model_dump(mode="json", exclude_unset=True)
    return [{**default, "preload": True}, *echo[1:], slow]


@contextmanager
def serving(folder: Path, *, real: bool) -> Iterator[Live]:
    listed = models(real=real)
    server = llm_serve(folder / "serve.yaml", {"models": listed})
    begin = time.monotonic()
    with started(server) as running:
        family = Family(running.process.pid)
        try:
            _good_within(running.url, RECOVERY_S)
            start_s = time.monotonic() - begin
            baseline = _count(family)
            own = [role for role in baseline if role.startswith(OWN)]
            rays = {o for o in own if any(RAYLET in family.below(p) for p in family.of(o))}
            model = listed[0]["id"]
            yield Live(running.url, family, start_s, baseline, frozenset(rays), model)
        finally:
            family.look()
            _end_in_order(family)


def _end_in_order(family: Family) -> None:
    """SIGTERM and a minute; then whatever is left is killed."""
    if family.root.is_running():
        family.root.terminate()
    family.left(60)
    family.end()


def _count(family: Family) -> dict[str, int]:
    return {role: len(found) for role, found in family.look().items()}


def _good_within(url: str, seconds: float) -> bool:
    """Whether the server says that it is well, and answers, within so long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            well = httpx.get(f"{url}/healthz", timeout=5, trust_env=False).json()["status"] == "ok"
            body = question(None, max_tokens=1)
            path = f"{url}/v1/chat/completions"
            if well and httpx.post(path, json=body, timeout=30, trust_env=False).status_code == 200:
                return True
        except (httpx.HTTPError, ValueError, KeyError):
            pass
        time.sleep(0.1)
    return False


def recovered(live: Live) -> bool:
    """Whether the next row may have this server: it is well, and no process is missing."""
    if not _good_within(live.url, RECOVERY_S + live.start_s):
        return False
    deadline = time.monotonic() + RECOVERY_S
    while time.monotonic() < deadline:
        now = _count(live.family)
        if all(now.get(role, 0) >= count for role, count in live.baseline.items()):
            return True
        time.sleep(0.5)
    return False
