"""The transport alone: the echo backend through Ray Serve against the same app on plain uvicorn.

    python -m bench.transport [--rounds 3] [--clients 1,8,32] [--tokens 64] [--requests 6]
        [--before CHECKOUT]

Both servers are up and take turns at each load, the other stopped, so that noise hits both. A chunk
comes every 20 ms. `--before` compares with another checkout's transport instead.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from bench.client import Result
from bench.compare import Cell, Measured, compare
from bench.servers import Server, add_before, before, llm_serve
from bench.table import header, row

ECHO = {"id": "echo", "backend": "echo", "engine": {"token_s": 0.02, "first_token_s": 0.02}}
CONFIG = {"models": [{**ECHO, "preload": True}]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", default="1,8,32")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--requests", type=int, default=6, help="of each client, in a round")
    add_before(parser)
    options = parser.parse_args()
    cells = [Cell(int(clients), True, options.tokens) for clients in options.clients.split(",")]

    def count(cell: Cell, result: Result) -> int:
        return len(result.texts) * cell.tokens

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "echo.yaml"
        ours = llm_serve(path, CONFIG)
        floor = [sys.executable, "-m", "bench.floor", str(path), "{port}"]
        other = Server("uvicorn", floor, "/healthz", '"status":"ok"')
        if options.before:
            other = before(ours, options.before)
        measured = compare(
            [ours, other],
            cells,
            options.rounds,
            count,
            {"ignore_eos": True},
            together=True,
            per_client=options.requests,
        )
    measured.show()
    show_added(measured, other.name)


def show_added(measured: Measured, other: str) -> None:
    """What the first token waits longer than with the other server."""
    print(header("clients", f"{other} TTFT p50", "llm-serve TTFT p50", "added"))
    for cell in measured.cells:
        low, high = (measured.ttft_ms(name, cell, 0.5) for name in (other, "llm-serve"))
        print(row(str(cell.clients), f"{low:.2f} ms", f"{high:.2f} ms", f"{high - low:+.2f} ms"))


if __name__ == "__main__":
    main()
