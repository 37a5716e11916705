"""Several servers under the same loads, in one run."""

from __future__ import annotations

import asyncio
import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import NamedTuple

from bench.client import Load, Result, run
from bench.servers import Running, Server, started
from bench.table import header, row


class Cell(NamedTuple):
    """One row of the table."""

    clients: int
    stream: bool
    tokens: int


@dataclass
class Measured:
    """Of every server (by name) and cell: tokens/s and the result of each round."""

    names: list[str]
    cells: Sequence[Cell]
    speeds: dict[tuple[str, Cell], list[float]] = field(default_factory=lambda: defaultdict(list))
    results: dict[tuple[str, Cell], list[Result]] = field(default_factory=lambda: defaultdict(list))
    peaks: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Highest PSS of each process tree after a load, in bytes."""

    def pace(self, name: str, cell: Cell) -> float:
        """Median tokens/s over the rounds."""
        return statistics.median(self.speeds[name, cell])

    def ratio(self, cell: Cell) -> float:
        """Of the first server to the fastest of the others in the same round; the median."""
        rounds = zip(*(self.speeds[name, cell] for name in self.names), strict=True)
        return statistics.median(paces[0] / max(paces[1:]) for paces in rounds)

    def ttft_ms(self, name: str, cell: Cell, quantile: float) -> float:
        return statistics.median(r.ttft_ms(quantile) for r in self.results[name, cell])

    def show(self) -> None:
        """The table: medians over the rounds, and `ratio`."""
        speeds = [f"{name}, tok/s" for name in self.names]
        print(header("clients", "stream", "tokens", *speeds, "ratio", "TTFT p50/p99, ms"))
        for cell in self.cells:
            pace = [self.pace(name, cell) for name in self.names]
            ratio = f"{self.ratio(cell):.2f}"
            ttft = " / ".join(self._ttft(name, cell) for name in self.names if cell.stream)
            told = [str(cell.clients), "yes" if cell.stream else "no", str(cell.tokens)]
            print(row(*told, *[f"{value:.1f}" for value in pace], ratio, ttft))
        for name in self.names:
            print(f"{name}: peak memory {self.peaks[name] / 2**30:.2f} GiB")

    def _ttft(self, name: str, cell: Cell) -> str:
        return f"{self.ttft_ms(name, cell, 0.5):.0f}/{self.ttft_ms(name, cell, 0.99):.0f}"


def compare(
    servers: Sequence[Server],
    cells: Sequence[Cell],
    rounds: int,
    count: Callable[[Cell, Result], int],
    extra: dict[str, object],
    *,
    together: bool = False,
) -> Measured:
    """Sends every load to every server, `rounds` times.

    The servers run one after the other, each for all of its loads; or `together`, where all are up
    and take turns at each load, the others stopped (SIGSTOP): what a shared machine gives changes
    within minutes, and this compares what is seconds apart. It needs the memory for all.

    `count` tells the generated tokens of a result; `extra` goes into every request. Raises
    SystemExit where a request fails.
    """
    measured = Measured([server.name for server in servers], cells)

    def measure(server: Server, running: Running, cell: Cell) -> None:
        result = asyncio.run(run(running.url, _load(cell, server, extra)))
        if result.failed:
            raise SystemExit(f"{server.name}: {result.failed[:3]}")
        running.weigh()
        measured.speeds[server.name, cell].append(count(cell, result) / result.wall_s)
        measured.results[server.name, cell].append(result)
        measured.peaks[server.name] = max(measured.peaks[server.name], running.peak_bytes)

    if together:
        _by_turns(servers, cells, rounds, measure, extra)
        return measured
    for _ in range(rounds):
        for server in servers:
            with started(server) as running:
                _warm(running, server, extra)
                for cell in cells:
                    measure(server, running, cell)
    return measured


def _by_turns(
    servers: Sequence[Server],
    cells: Sequence[Cell],
    rounds: int,
    measure: Callable[[Server, Running, Cell], None],
    extra: dict[str, object],
) -> None:
    with ExitStack() as stack:
        turns = []
        for server in servers:
            running = stack.enter_context(started(server))
            _warm(running, server, extra)
            running.pause()
            turns.append((server, running))
        for number in range(rounds):
            for cell in cells:
                for server, running in turns[:: -1 if number % 2 else 1]:
                    running.resume()
                    _warm(running, server, extra)
                    measure(server, running, cell)
                    running.pause()


def _load(cell: Cell, server: Server, extra: dict[str, object]) -> Load:
    requests = max(8, 2 * cell.clients)
    return Load(cell.clients, requests, cell.tokens, cell.stream, server.model, extra)


def _warm(running: Running, server: Server, extra: dict[str, object]) -> None:
    asyncio.run(run(running.url, Load(2, 4, 16, True, server.model, extra)))
