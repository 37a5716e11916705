"""A closed-loop load: so many clients, each sending its next request when the last has ended."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from dataclasses import dataclass, field

import aiohttp

PROMPTS = (
    "Explain how a lighthouse works, in detail.",
    "Write a long story about a fox who learns to read.",
    "Describe the water cycle step by step, with examples.",
    "List and explain twenty useful habits for a good night's sleep.",
    "Tell me about the history of the bicycle, from the beginning until today.",
    "Explain photosynthesis to a child, with a long story.",
    "Describe a walk through a market in a big city.",
    "Write a letter to a friend about a journey through the mountains.",
)


@dataclass(frozen=True)
class Load:
    """What is sent. `requests` is over all clients."""

    clients: int
    requests: int
    max_tokens: int
    stream: bool
    model: str | None = None
    extra: dict[str, object] = field(default_factory=dict)


@dataclass
class Result:
    """What came back. Times in seconds; `texts` are the answers, for counting tokens."""

    wall_s: float = 0.0
    ttft_s: list[float] = field(default_factory=list)
    gaps_s: list[float] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def ttft_ms(self, quantile: float) -> float:
        return _quantile(self.ttft_s, quantile) * 1000

    def itl_ms(self, quantile: float) -> float:
        return _quantile(self.gaps_s, quantile) * 1000


def _quantile(values: list[float], quantile: float) -> float:
    if len(values) < 2:
        return values[0] if values else float("nan")
    return statistics.quantiles(values, n=100, method="inclusive")[round(quantile * 100) - 1]


async def run(url: str, load: Load) -> Result:
    """Sends the load to the server at `url`; a failure is kept, not raised."""
    result = Result()
    queue = list(range(load.requests))
    timeout = aiohttp.ClientTimeout(total=900)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:

        async def client() -> None:
            while queue:
                number = queue.pop(0)
                try:
                    await _one(session, url, load, number, result)
                except (aiohttp.ClientError, TimeoutError, ValueError, KeyError) as error:
                    result.failed.append(f"{type(error).__name__}: {error}")

        begin = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(load.clients)))
        result.wall_s = time.perf_counter() - begin
    return result


async def _one(
    session: aiohttp.ClientSession, url: str, load: Load, number: int, result: Result
) -> None:
    body: dict[str, object] = {
        "messages": [{"role": "user", "content": PROMPTS[number % len(PROMPTS)]}],
        "max_tokens": load.max_tokens,
        "stream": load.stream,
        **load.extra,
    }
    if load.model is not None:
        body["model"] = load.model
    begin = time.perf_counter()
    async with session.post(f"{url}/v1/chat/completions", json=body) as response:
        if response.status != 200:
            raise ValueError(f"{response.status} {(await response.text())[:200]}")
        if not load.stream:
            answer = await response.json(content_type=None)
            result.texts.append(answer["choices"][0]["message"]["content"])
            return
        last, parts = 0.0, []
        async for line in response.content:
            if not line.startswith(b"data: {"):
                continue
            chunk = json.loads(line[6:])
            if "error" in chunk:
                raise ValueError(str(chunk["error"]))
            text = chunk["choices"] and chunk["choices"][0]["delta"].get("content")
            if not text:
                continue
            now = time.perf_counter()
            if last:
                result.gaps_s.append(now - last)
            else:
                result.ttft_s.append(now - begin)
            last = now
            parts.append(text)
        result.texts.append("".join(parts))
