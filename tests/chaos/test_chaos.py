"""Everything is killed at random under random traffic: every promise holds, and nothing is left.

    python -m pytest tests/chaos [--minutes 2] [--seed N]

The same seed gives the same choices; what they hit depends on the moment. A stream that was cut
because the very process that carried it was killed is allowed, and counted apart.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from bench.family import MODEL
from bench.outcome import foreign
from bench.steady import CHAT, question
from llm_serve.config import default_config
from tests.chaos.baseline import Baseline
from tests.chaos.faults import Faults
from tests.chaos.traffic import WORDS, Traffic, violations
from tests.support.inprocess import echo
from tests.support.whole import Whole, whole

pytestmark = [pytest.mark.chaos, pytest.mark.ray, pytest.mark.model]

HOLD_S, INFERENCE_S, DRAIN_S = 40.0, 40.0, 15.0
BOUND_S = HOLD_S + INFERENCE_S + 15
"""Nothing lasts longer, whatever dies."""
SETTLE_S = 90.0


def _config(min_residency_s: float = 0.3, max_running: int = 4) -> dict[str, Any]:
    """Four models, room for three, two ingresses; the second model may have two replicas."""
    default = default_config().default_model.model_dump(mode="json", exclude_unset=True)
    real = {**default, "engine": {"dtype": "float32", "device": "cpu"}}
    shared = {"load_s": 0.5, "token_s": 0.02}
    return {
        "models": [
            real,
            echo("echo/a", **shared, max_replicas=2, max_running=max_running),
            echo("echo/b", **shared),
            echo("echo/c", **shared),
        ],
        "residency": {"max_resident": 3, "min_residency_s": min_residency_s, "max_wait_s": 3},
        "cold_start": {"max_hold_s": HOLD_S},
        "server": {
            "ingress_replicas": 2,
            "inference_timeout_s": INFERENCE_S,
            "drain_timeout_s": DRAIN_S,
        },
    }


CHANGED = [_config(0.2), _config(0.5), _config(0.3, 3)]
MODELS = [model["id"] for model in _config()["models"]]


class Log:
    """A file with a line for each event, from any thread."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.events: list[str] = []
        self._begin = time.monotonic()
        self._lock = threading.Lock()

    def note(self, line: str) -> None:
        with self._lock, open(self.name, "a") as file:  # noqa: PTH123
            file.write(f"{time.monotonic() - self._begin:8.2f} ({time.monotonic():.1f}) {line}\n")

    def event(self, line: str) -> None:
        self.events.append(f"{time.monotonic() - self._begin:8.2f} {line}")
        self.note(line)


@pytest.fixture
def log() -> Log:
    handle, name = tempfile.mkstemp(prefix="llm-serve-chaos-", suffix=".log")
    os.close(handle)
    return Log(name)


async def test_chaos(minutes: float, seed: int, log: Log) -> None:
    print(f"\nseed {seed}; everything is in {log.name}")
    broke: list[str] = []
    rng = random.Random(seed)
    with whole(_config()) as server:
        try:
            broke += await _at_rest(server, "at the start")
            before = Baseline(server)
            log.event(f"baseline: {dict(before.kinds)}")
            traffic = Traffic(server.url, MODELS, random.Random(rng.random()), BOUND_S, log.note)
            faults = Faults(server, random.Random(rng.random()), minutes * 60, CHANGED, log.event)
            broke += await _storm(traffic, faults)
            told, excused = violations(traffic.ended, faults.carried)
            broke += told
            for line in told:
                log.note(f"violation: {line}")
            log.event(f"how requests ended: {dict(traffic.kinds())}; excused: {len(excused)}")
            broke += await _at_rest(server, "at the end")
            broke += await asyncio.to_thread(_settled, before, server)
            broke += await asyncio.to_thread(_stopped, server)
        finally:
            log.note("what the server said:\n" + server.server.output)
            server.keep_logs(Path(f"{log.name}.ray"))
    if not broke:
        shutil.rmtree(f"{log.name}.ray", ignore_errors=True)
    if not faults.redeployed:
        broke.append("no redeploy was accepted")
    if not traffic.kinds()["200"]:
        broke.append("nobody ever got an answer")
    events = "\n".join(log.events)
    assert not broke, (
        f"seed {seed}, {len(broke)} violations, all in {log.name}:\n"
        + "\n".join(_some_of_each(broke))
        + f"\nevents:\n{events}"
    )


def _some_of_each(broke: list[str]) -> list[str]:
    """The violations, of each kind of request's the first few."""
    shown: list[str] = []
    kinds: Counter[str] = Counter()
    for line in broke:
        kind = next((word for word in WORDS.values() if word in line), line)
        kinds[kind] += 1
        if kinds[kind] <= 5:
            shown.append(line[:400])
    return [*shown, *(f"{count} times: {kind}" for kind, count in kinds.items() if count > 5)]


async def _storm(traffic: Traffic, faults: Faults) -> list[str]:
    """Traffic and faults; what was still running past every bound, and what the faults found."""
    thread = asyncio.create_task(asyncio.to_thread(faults.run))
    clients = asyncio.create_task(traffic.run())
    try:
        await thread
    finally:
        faults.stopped.set()
        traffic.stop()
    done, _ = await asyncio.wait({clients}, timeout=BOUND_S + 10)
    if not done:
        clients.cancel()
        return [*faults.violations, f"{traffic.running} requests hang past {BOUND_S:.0f} s"]
    clients.result()
    return list(faults.violations)


async def _at_rest(server: Whole, when: str) -> list[str]:
    """Every model answers; then none is asked for, none is loading, and all are taken out."""
    broke = []
    async with httpx.AsyncClient(base_url=server.url, timeout=BOUND_S, trust_env=False) as client:
        for model in MODELS:
            broke += [f"{when} {model}: {why}" for why in await _answers(client, model)]
        quiet = await _until(lambda: _quiet(client, server))
        broke += [f"{when}: {why}" for why in quiet]
        for _ in range(30):  # no ticket is left that would bring a model back
            await asyncio.sleep(0.1)
            if why := await _quiet(client, server):
                broke.append(f"{when}, though nobody asks: {why}")
                break
        for model in MODELS:
            with suppress(httpx.TransportError):  # `_cold` will say so
                await client.post(f"/v1/models/{model}/unload")
        broke += [f"{when}: {why}" for why in await _until(lambda: _cold(client))]
    return broke


async def _answers(client: httpx.AsyncClient, model: str) -> list[str]:
    """Nothing once a held request got its answer; else what it got instead."""
    deadline = time.monotonic() + SETTLE_S
    why = ""
    while time.monotonic() < deadline:
        body = question(model, "hello", max_tokens=2)
        try:
            response = await client.post(CHAT, json=body, headers={"prefer": "wait=40"})
        except httpx.TransportError as error:
            return [f"no answer: {type(error).__name__}: {error}"]
        if response.status_code == 200:
            return []
        why = f"{response.status_code} {response.text[:300]}"
        if strange := foreign(response.status_code, response.headers, response.content):
            return [strange]
        await asyncio.sleep(0.5)
    return [why]


async def _until(condition: Callable[[], Any]) -> list[str]:
    """Polls until there is nothing to say; else the last that was said."""
    deadline = time.monotonic() + SETTLE_S
    while why := await condition():
        if time.monotonic() > deadline:
            return [str(why)]
        await asyncio.sleep(0.3)
    return []


async def _quiet(client: httpx.AsyncClient, server: Whole) -> str | None:
    """Why the server is not at rest, on any of its ingresses."""
    try:
        data = (await client.get("/v1/models")).json()["data"]
    except (httpx.TransportError, ValueError, KeyError) as error:
        return f"/v1/models: {type(error).__name__}: {error}"
    if busy := [m for m in data if m["status"] in ("loading", "queued", "draining")]:
        return f"in motion: {[(m['id'], m['status']) for m in busy]}"
    if counted := [m for m in data if m["running"] or m["queued"]]:
        return f"counted: {[(m['id'], m['running'], m['queued']) for m in counted]}"
    views = await asyncio.to_thread(server.every_ingress)
    if len(views) != 2:
        return f"{len(views)} ingresses answer, not 2"
    if left := [v for v in views if v["running"] or v["queue_depth"]]:
        return f"an ingress counts requests: {left}"
    return None


async def _cold(client: httpx.AsyncClient) -> str | None:
    try:
        data = (await client.get("/v1/models")).json()["data"]
    except (httpx.TransportError, ValueError, KeyError) as error:
        return f"/v1/models: {type(error).__name__}: {error}"
    warm = [(m["id"], m["status"]) for m in data if m["status"] != "unloaded"]
    return f"not unloaded: {warm}" if warm else None


def _settled(before: Baseline, server: Whole) -> list[str]:
    """What is still more than at the start, once it had time to go."""
    deadline = time.monotonic() + SETTLE_S
    while grown := before.grown(server):
        if time.monotonic() > deadline:
            return [f"left at the end: {what}" for what in grown]
        time.sleep(1)
    if left := server.family.of(MODEL):
        return [f"model replicas without a model: {[p.pid for p in left]}"]
    return []


def _stopped(server: Whole) -> list[str]:
    """What SIGTERM leaves."""
    code = server.stop(DRAIN_S + 45)
    broke = [] if code == 0 else [f"the exit code after SIGTERM is {code}, not 0"]
    if left := server.family.left(5):
        names = [f"{p.pid} {p.name()}" for p in left if p.is_running()]
        broke.append(f"processes left after the end: {names}")
    if folders := server.own_folders():
        broke.append(f"folders left after the end: {[folder.name for folder in folders]}")
    return broke
