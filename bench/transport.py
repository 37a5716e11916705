"""The transport alone: the echo backend through Ray Serve against the same app on plain uvicorn.

    python -m bench.transport [--rounds 3] [--clients 1,8,32]

Both servers are up at once and take turns, so that noise hits both. A chunk comes every 20 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

from bench.client import Load, run
from bench.servers import Server, configured, started
from bench.table import header, row

ECHO = {"id": "echo", "backend": "echo", "engine": {"token_s": 0.02, "first_token_s": 0.02}}
CONFIG = {"models": [{**ECHO, "preload": True}]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", default="1,8,32")
    options = parser.parse_args()
    clients = [int(c) for c in options.clients.split(",")]
    ttft: dict[tuple[str, int], list[float]] = defaultdict(list)
    walls: dict[tuple[str, int], list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        path = Path(folder) / "echo.yaml"
        ours = configured(path, CONFIG)
        floor = [sys.executable, "-m", "bench.floor", str(path), "{port}"]
        pair = [
            Server("llm-serve", ours, "/healthz", '"status":"ok"'),
            Server("uvicorn", floor, "/healthz", '"status":"ok"'),
        ]
        up = {server.name: stack.enter_context(started(server)) for server in pair}
        for _ in range(options.rounds):
            for count in clients:
                for name, running in up.items():
                    load = Load(count, count * 6, 64, True, extra={"ignore_eos": True})
                    result = asyncio.run(run(running.url, load))
                    if result.failed:
                        raise SystemExit(f"{name}: {result.failed[:3]}")
                    ttft[name, count] += result.ttft_s
                    walls[name, count].append(result.wall_s)
    print(header("clients", "uvicorn TTFT p50", "llm-serve TTFT p50", "added", "wall ratio"))
    for count in clients:
        low, high = (
            statistics.median(ttft[name, count]) * 1000 for name in ("uvicorn", "llm-serve")
        )
        ratio = sum(walls["llm-serve", count]) / sum(walls["uvicorn", count])
        print(
            row(
                str(count),
                f"{low:.1f} ms",
                f"{high:.1f} ms",
                f"{high - low:.1f} ms",
                f"{ratio:.3f}",
            )
        )


if __name__ == "__main__":
    main()
