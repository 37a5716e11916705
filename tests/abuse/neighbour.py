"""A client that behaves, measured alone and beside an attacker by turns."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from bench.outcome import broken, foreign
from bench.steady import CHAT, question
from tests.cli.processes import ROOT

OTHER_ADDRESS = "127.0.0.2"
"""The attacker's: what is bounded is bounded for each caller."""
ROUNDS, REQUESTS = 3, 40
FLOOR_S = 0.05
"""Below it the noise of a machine with two cores decides, and not the server."""
TIMES = 2.0
PATIENCE_S = 10.0
PHASE_S = 10.0
"""A phase is over after so long, however few answers there were: they were slow enough to tell."""
FAILURES = 3
"""So many say enough."""


class Attacking:
    """The attacker's process; see `tests.abuse.attacker`."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        self._child = child

    def go(self) -> None:
        self._say("go")

    def stop(self) -> dict[str, Any]:
        return dict(json.loads(self._say("stop")))

    def outlast(self) -> dict[str, Any]:
        return dict(json.loads(self._say("outlast")))

    def _say(self, command: str) -> str:
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(command + "\n")
        self._child.stdin.flush()
        answer = self._child.stdout.readline()
        assert answer, "the attacker died"
        return answer


@contextmanager
def attacking(port: int, attack: str, source: str = OTHER_ADDRESS) -> Iterator[Attacking]:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.abuse.attacker", str(port), attack, source],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            yield Attacking(child)
        finally:
            child.kill()


@dataclass
class Neighbour:
    """Asks on a new connection each time, as one who comes while the attack goes on."""

    url: str
    alone_s: list[float] = field(default_factory=list)
    beside_s: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def ask(self, times: list[float]) -> None:
        """So many streams one after the other; the first and the last look at /healthz as well."""
        with httpx.Client(
            base_url=self.url,
            timeout=PATIENCE_S,
            headers={"connection": "close"},
            trust_env=False,
        ) as client:
            enough = time.monotonic() + PHASE_S
            for number in range(REQUESTS):
                if number and time.monotonic() > enough:
                    return
                try:
                    if number in (0, REQUESTS - 1):
                        self._look(client)
                    times.append(self._stream(client))
                except httpx.TransportError as error:
                    self.failed.append(f"{broken(error)}: {type(error).__name__}: {error}")
                    if len(self.failed) >= FAILURES:
                        return

    def slower(self) -> str | None:
        """Why the attack was noticed; None where it was not."""
        if not self.alone_s or not self.beside_s:
            return f"{len(self.alone_s)} answers alone, {len(self.beside_s)} beside the attack"
        alone, beside = _p99(self.alone_s), _p99(self.beside_s)
        if beside <= TIMES * max(alone, FLOOR_S):
            return None
        return f"TTFT p99 {beside * 1000:.0f} ms, alone {alone * 1000:.0f} ms"

    def _look(self, client: httpx.Client) -> None:
        answer = client.get("/healthz")
        why = foreign(answer.status_code, answer.headers, answer.content)
        if why or answer.status_code != 200:
            self.failed.append(f"/healthz: {why or answer.text[:200]}")

    def _stream(self, client: httpx.Client) -> float:
        body = question(None, "word word word", max_tokens=3, stream=True)
        begin = time.monotonic()
        first = 0.0
        with client.stream("POST", CHAT, json=body) as response:
            if response.status_code != 200:
                response.read()
                self.failed.append(f"{response.status_code} {response.text[:200]}")
            done = False
            for line in response.iter_lines():
                first = first or (time.monotonic() - begin if '"content":"w' in line else 0.0)
                done = done or line == "data: [DONE]"
            if response.status_code == 200 and not (first and done):
                self.failed.append("a stream without its end")
        return first or time.monotonic() - begin


def _p99(times: list[float]) -> float:
    return statistics.quantiles(times, n=100, method="inclusive")[98]
