"""What is done to the server: kills by weight, a whole restart now and then, redeploys."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import psutil

from bench.family import (
    AGENT,
    CONTROLLER,
    DIRECTOR,
    GCS,
    HAPROXY,
    INGRESS,
    LOG_MONITOR,
    MANAGER,
    MODEL,
    OWN,
    PROXY,
    RAYLET,
    RUNTIME_ENV,
)
from tests.chaos.traffic import Ended
from tests.support.whole import Whole

WEIGHTS = {MODEL: 8, INGRESS: 2, DIRECTOR: 2, CONTROLLER: 2, PROXY: 1, HAPROXY: 2, MANAGER: 1}
WEIGHTS |= {LOG_MONITOR: 1}
WHOLE = (RAYLET, GCS, AGENT, RUNTIME_ENV)
"""Their death, and that of what stands between `llm-serve` and Ray, is a start of all of Ray."""
PAUSE_S = (2.0, 7.0)
RESTART_EVERY_S = 240.0
FIRST_RESTART = 0.45
"""When the first whole restart comes, as a share of a short run."""
REDEPLOY_EVERY_S = 45.0
RECOVERY_S = 120.0
_NEAR_S = 2.0


@dataclass
class Kill:
    """Who was killed when. `end` is when what went with it was there again.

    `carried` is what of the way of an answer ended with it: HAProxy, an ingress, or neither.
    """

    at: float
    who: str
    end: float
    carried: frozenset[str] = frozenset()


@dataclass
class Faults:
    """Runs in a thread of its own until `seconds` are over."""

    server: Whole
    rng: random.Random
    seconds: float
    configs: list[dict[str, Any]]
    log: Callable[[str], None]
    kills: list[Kill] = field(default_factory=list)
    redeployed: int = 0
    violations: list[str] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        begin = time.monotonic()
        restart = begin + min(FIRST_RESTART * self.seconds, RESTART_EVERY_S)
        redeploy = begin + min(0.2 * self.seconds, REDEPLOY_EVERY_S)
        while time.monotonic() < begin + self.seconds:
            now = time.monotonic()
            if now > restart:
                self._restart()
                restart = time.monotonic() + RESTART_EVERY_S
            elif now > redeploy:
                self._redeploy()
                redeploy = time.monotonic() + REDEPLOY_EVERY_S
            else:
                self._kill(self._anyone())
            if self.stopped.wait(self.rng.uniform(*PAUSE_S)):
                return

    def carried(self, request: Ended) -> bool:
        """Whether a process that carried this answer was killed while it was on its way."""
        for kill in self.kills:
            if request.end < kill.at - 0.1 or request.begin > kill.end:
                continue
            near = kill.at - 0.1 <= request.end <= kill.end + _NEAR_S
            # Behind HAProxy only what was begun is cut: it says 502 or 503 for the rest itself.
            if near and (HAPROXY in kill.carried or (INGRESS in kill.carried and request.opened)):
                return True
        return False

    def _anyone(self) -> str:
        """One of those that are mended without a start of Ray, by weight."""
        found = self.server.family.look()
        weights = dict(WEIGHTS)
        for who in self._own(found):
            if not self._has_ray(found[who]):
                weights[who] = 1
        (who,) = self.rng.choices(list(weights), list(weights.values()))
        return who

    def _own(self, found: dict[str, list[psutil.Process]]) -> list[str]:
        return sorted(who for who in found if who.startswith(OWN))

    def _has_ray(self, processes: list[psutil.Process]) -> bool:
        return any(RAYLET in self.server.family.below(process) for process in processes)

    def _kill(self, who: str) -> Kill | None:
        found = self.server.family.of(who)
        if not found:
            self.log(f"no {who} to kill")
            return None
        victim = self.rng.choice(found)
        carried = self.server.family.below(victim) & {HAPROXY, INGRESS}
        # HAProxy falls back to Ray's proxy where it knows no ingress.
        if who in (*WHOLE, PROXY):
            carried.add(INGRESS)
        now = time.monotonic()
        kill = Kill(now, who, now, frozenset(carried))
        self.kills.append(kill)
        self.log(f"kill -9 {who} {victim.pid}")
        with suppress(psutil.NoSuchProcess):  # it ended by itself since it was looked for
            victim.kill()
        return kill

    def _restart(self) -> None:
        """Something that Ray cannot mend; waits until the server is there again."""
        found = self.server.family.look()
        own = [who for who in self._own(found) if self._has_ray(found[who])]
        kill = self._kill(self.rng.choice([who for who in (*WHOLE, *own) if who in found]))
        if kill is None:
            return
        kill.end = kill.at + RECOVERY_S
        gone = False
        while time.monotonic() < kill.at + RECOVERY_S and not self.stopped.is_set():
            well = self._well()
            gone = gone or not well
            # It may take a while to notice: what stays well was mended, or never broke.
            if well and (gone or time.monotonic() > kill.at + 30):
                kill.end = time.monotonic()
                self.log(f"well again {kill.end - kill.at:.1f} s after the death of the {kill.who}")
                return
            time.sleep(0.3)
        if not self.stopped.is_set():
            self.violations.append(f"not well {RECOVERY_S:.0f} s after the death of the {kill.who}")

    def _well(self) -> bool:
        try:
            answer = httpx.get(f"{self.server.url}/healthz", timeout=5, trust_env=False)
        except httpx.HTTPError:
            return False
        return answer.status_code == 200

    def _redeploy(self) -> None:
        config = self.rng.choice(self.configs)
        why = self.server.redeploy(config)
        self.redeployed += why is None
        self.log("redeploy: " + (why or "accepted"))
