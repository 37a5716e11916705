"""An open-loop load: requests at a fixed pace, whatever became of those before."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import httpx

from bench.outcome import FOREIGN, broken, foreign

CHAT = "/v1/chat/completions"


@dataclass
class Seen:
    """What clients saw. `good` has when each 200 was complete, on the monotonic clock."""

    begin: float = field(default_factory=time.monotonic)
    end: float = 0.0
    kinds: Counter[str] = field(default_factory=Counter)
    good: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What was foreign, in its own words."""

    def count(self, kind: str, note: str | None = None) -> None:
        self.kinds[kind] += 1
        if kind == "200":
            self.good.append(time.monotonic())
        if note is not None and len(self.notes) < 10:
            self.notes.append(note)

    def worst_gap(self) -> tuple[float, bool]:
        """The longest time without a good answer, and whether one ended it."""
        times = [self.begin, *sorted(self.good), self.end]
        gaps = [(b - a, index) for index, (a, b) in enumerate(pairwise(times))]
        longest, index = max(gaps)
        return longest, index < len(gaps) - 1

    def other_ours(self) -> Iterator[tuple[str, int]]:
        """The answers of ours besides 200 and 202, by status."""
        for kind, count in sorted(self.kinds.items()):
            if kind.isdigit() and kind not in ("200", "202"):
                yield kind, count


def question(model: str | None, text: str = "hi", **fields: Any) -> dict[str, Any]:
    """The body of a chat."""
    named = {} if model is None else {"model": model}
    return {**named, "messages": [{"role": "user", "content": text}], **fields}


@asynccontextmanager
async def clients(
    url: str, timeout_s: float
) -> AsyncIterator[tuple[httpx.AsyncClient, httpx.AsyncClient]]:
    """One client that keeps its connections, and one that opens a new one each time."""
    options: dict[str, Any] = {"base_url": url, "timeout": timeout_s, "trust_env": False}
    fresh = httpx.Limits(max_keepalive_connections=0)
    async with (
        httpx.AsyncClient(**options) as kept,
        httpx.AsyncClient(**options, limits=fresh, headers={"connection": "close"}) as new,
    ):
        yield kept, new


async def ask(client: httpx.AsyncClient, body: dict[str, Any], seen: Seen) -> str:
    """Sends one chat and counts how it ended."""
    try:
        response = await client.post(CHAT, json=body)
    except httpx.TransportError as error:
        kind, note = broken(error), None
    else:
        note = foreign(response.status_code, response.headers, response.content)
        kind = str(response.status_code) if note is None else FOREIGN
    seen.count(kind, note)
    return kind


async def steady(
    url: str, body: dict[str, Any], *, seconds: float, per_s: float, timeout_s: float
) -> Seen:
    """So many a second for so long, by turns on connections that are kept and on new ones."""
    seen = Seen()
    async with clients(url, timeout_s) as pair:
        tasks = []
        for number in range(round(seconds * per_s)):
            await asyncio.sleep(seen.begin + number / per_s - time.monotonic())
            tasks.append(asyncio.create_task(ask(pair[number % 2], body, seen)))
        seen.end = time.monotonic()
        await asyncio.gather(*tasks)
    seen.end = max([seen.end, *seen.good])
    return seen


async def crowd(
    url: str, bodies: Sequence[dict[str, Any]], *, count: int, seconds: float, timeout_s: float
) -> Seen:
    """So many clients over these bodies, each waiting a fifth of a second between two requests."""
    seen = Seen()

    async def client(number: int) -> None:
        async with clients(url, timeout_s) as pair:
            turn = number
            while time.monotonic() < seen.begin + seconds:
                turn += 1
                await ask(pair[turn % 2], bodies[turn % len(bodies)], seen)
                await asyncio.sleep(0.2)

    await asyncio.gather(*(client(number) for number in range(count)))
    seen.end = time.monotonic()
    return seen
