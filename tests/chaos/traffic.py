"""Random traffic, and a judgement of how every request ended."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from bench.outcome import CUT, FOREIGN, REFUSED, TIMEOUT, broken, foreign, stream_end
from bench.steady import CHAT, question

LEFT = "left"
"""The client went away by itself."""
HONEST = {"200", "202", "409", "429", "502", "503", "504"}
"""What a request that is right may get from a server that is being killed."""
FRAMES = {"200", "engine_died", "inference_timeout", "model_not_ready", "model_load_failed"}
FRAMES |= {"not_accepting_requests", "queue_full"}
"""How its stream may end."""
WORDS = {
    REFUSED: "refused a connection",
    CUT: "cut, and nothing that carried it was killed",
    FOREIGN: "an answer that is none of ours",
    TIMEOUT: "hung",
}
CLIENTS = 10
_PREFER = (None, "respond-async", "wait=30", "wait=30")


@dataclass
class Ended:
    """One request. Times on the monotonic clock."""

    begin: float
    end: float
    what: str
    kind: str
    note: str | None = None
    opened: bool = False
    """It was a stream whose 200 had come."""


@dataclass
class Traffic:
    """Clients that ask for anything until they are told to stop. `bound_s` is for every request."""

    url: str
    models: list[str]
    rng: random.Random
    bound_s: float
    log: Callable[[str], None]
    ended: list[Ended] = field(default_factory=list)
    running: int = 0
    _stop: bool = False

    async def run(self) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        async with httpx.AsyncClient(
            base_url=self.url,
            timeout=self.bound_s,
            limits=limits,
            # A kept connection that the server closes at this moment is nobody's fault.
            headers={"connection": "close"},
            trust_env=False,
        ) as client:
            await asyncio.gather(*(self._client(client) for _ in range(CLIENTS)))

    def stop(self) -> None:
        self._stop = True

    def kinds(self) -> Counter[str]:
        return Counter(request.kind for request in self.ended)

    async def _client(self, client: httpx.AsyncClient) -> None:
        while not self._stop:
            if self.rng.random() < 0.1:
                await self._one("GET", self.rng.choice(("/healthz", "/v1/models")), client, None)
            else:
                await self._one("POST", CHAT, client, self._body())
            await asyncio.sleep(self.rng.uniform(0, 0.4))

    def _body(self) -> dict[str, Any]:
        rng = self.rng
        words = " ".join(["word"] * rng.randint(1, 60))
        return question(
            rng.choice(self.models),
            words,
            max_tokens=rng.randint(1, 40),
            stream=rng.random() < 0.5,
            n=rng.choice((1, 1, 1, 2, 3)),
        )

    async def _one(
        self, method: str, path: str, client: httpx.AsyncClient, body: dict[str, Any] | None
    ) -> None:
        prefer = self.rng.choice(_PREFER) if body else None
        patience = self.rng.uniform(0.05, 2.0) if body and self.rng.random() < 0.15 else None
        what = path
        if body:
            what = f"{body['model']} n={body['n']}{' stream' if body['stream'] else ''} {prefer}"
        request = Ended(time.monotonic(), 0.0, what, LEFT)
        headers = {} if prefer is None else {"prefer": prefer}
        self.running += 1
        try:
            async with asyncio.timeout(self.bound_s):
                asked = self._exchange(client, method, path, body, headers, request)
                await (asyncio.wait_for(asked, patience) if patience else asked)
        except TimeoutError:
            gone = patience is not None and time.monotonic() - request.begin < self.bound_s
            request.kind = LEFT if gone else TIMEOUT
        except httpx.TransportError as error:
            request.kind, request.note = broken(error), f"{type(error).__name__}: {error}"
        finally:
            self.running -= 1
        request.end = time.monotonic()
        self.ended.append(request)
        took = f"{request.end - request.begin:.2f} s"
        self.log(f"{request.kind} after {took}: {what} {request.note or ''}")

    async def _exchange(
        self,
        client: httpx.AsyncClient,
        method: str,
        path: str,
        body: dict[str, Any] | None,
        headers: dict[str, str],
        request: Ended,
    ) -> None:
        async with client.stream(method, path, json=body, headers=headers) as response:
            kind = response.headers.get("content-type", "")
            request.opened = response.status_code == 200 and kind.startswith("text/event-stream")
            content = await response.aread()
        why = foreign(response.status_code, response.headers, content)
        if why is not None:
            request.kind, request.note = FOREIGN, why
        elif request.opened:
            request.kind = stream_end(content)
        else:
            request.kind = str(response.status_code)
            if response.status_code >= 400:
                request.note = response.json()["error"]["message"]


def violations(
    requests: list[Ended], carried: Callable[[Ended], bool]
) -> tuple[list[str], list[Ended]]:
    """What broke a promise, and the answers that were cut with the very process that carried them,
    as `carried` says."""
    broke, excused = [], []
    for request in requests:
        honest = FRAMES if request.opened else HONEST
        if request.kind == LEFT or request.kind in honest:
            continue
        if request.kind == CUT and carried(request):
            excused.append(request)
            continue
        words = WORDS.get(request.kind, f"ended with {request.kind}")
        broke.append(f"{request.what} at {request.begin:.1f}: {words}: {request.note}")
    return broke, excused
