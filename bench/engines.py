"""Ours against `transformers serve`, same weights, same machine, one run.

    python -m bench.engines [--rounds 2] [--tokens 64] [--clients 1,8,32]

Servers take turns, one at a time: side by side the peer's memory (it takes most of the machine's)
would be measured, not its speed. Answers are greedy, so that all generate the same tokens; tokens
are counted by tokenizing the answers.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
from collections import defaultdict
from pathlib import Path

from transformers import AutoTokenizer

from bench.client import Load, Result, run
from bench.servers import BIN, Running, Server, started
from bench.table import header, row
from llm_serve.config import default_config
from llm_serve.models import resolve

Cell = tuple[int, bool]


def servers(folder: Path) -> list[Server]:
    """Ours first, then the peers; all read the same folder and run in bfloat16."""
    peer = [str(BIN / "transformers"), "serve", str(folder), "--dtype", "bfloat16"]
    peer += ["--port", "{port}", "--host", "127.0.0.1"]
    ours = [str(BIN / "llm-serve"), "--port", "{port}"]
    return [
        Server("llm-serve", ours, "/healthz", '"status":"ok"'),
        Server(
            "transformers serve --continuous-batching",
            [*peer, "--continuous-batching"],
            "/health",
            model=str(folder),
        ),
        Server("transformers serve", peer, "/health", model=str(folder)),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--clients", default="1,8,32")
    options = parser.parse_args()
    folder = resolve(default_config().default_model)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    cells = [(int(c), stream) for c in options.clients.split(",") for stream in (True, False)]
    speeds: dict[tuple[str, Cell], list[float]] = defaultdict(list)
    results: dict[tuple[str, Cell], Result] = {}
    peaks: dict[str, int] = defaultdict(int)
    names = [server.name for server in servers(folder)]

    for _ in range(options.rounds):
        for server in servers(folder):
            with started(server) as running:
                asyncio.run(_warm(running, server))
                for cell in cells:
                    result = asyncio.run(run(running.url, _load(cell, options.tokens, server)))
                    if result.failed:
                        raise SystemExit(f"{server.name}: {result.failed[:3]}")
                    tokens = sum(len(tokenizer(text).input_ids) for text in result.texts)
                    speeds[server.name, cell].append(tokens / result.wall_s)
                    results[server.name, cell] = result
                peaks[server.name] = max(peaks[server.name], running.peak_bytes)

    print(header("clients", "stream", *[f"{n}, tok/s" for n in names], "ratio", "TTFT p50/p99, ms"))
    for cell in cells:
        pace = [statistics.median(speeds[name, cell]) for name in names]
        ttft = " / ".join(_ttft(results[name, cell]) for name in names[:2]) if cell[1] else ""
        ratio = f"{pace[0] / max(pace[1:]):.2f}"
        shown = [f"{value:.1f}" for value in pace]
        print(row(str(cell[0]), "yes" if cell[1] else "no", *shown, ratio, ttft))
    for name in names:
        print(f"{name}: peak resident {peaks[name] / 2**30:.2f} GiB")


def _load(cell: Cell, tokens: int, server: Server) -> Load:
    clients, stream = cell
    requests = max(8, 2 * clients)
    return Load(clients, requests, tokens, stream, server.model, {"temperature": 0})


async def _warm(running: Running, server: Server) -> None:
    await run(running.url, Load(2, 4, 16, True, server.model, {"temperature": 0}))


def _ttft(result: Result) -> str:
    return f"{result.ttft_ms(0.5):.0f}/{result.ttft_ms(0.99):.0f}"


if __name__ == "__main__":
    main()
