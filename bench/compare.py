"""Several servers under the same loads, in one run."""

from __future__ import annotations

import asyncio
import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from bench.client import Load, Result, run
from bench.servers import Running, Server, all_started, started
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

    def ratios(self, cell: Cell) -> list[float]:
        """Of the first server's tokens/s to the fastest of the others', in each round."""
        rounds = zip(*(self.speeds[name, cell] for name in self.names), strict=True)
        return [paces[0] / max(paces[1:]) for paces in rounds]

    def ttft_ratios(self, cell: Cell) -> list[float]:
        """Of the first server's median TTFT to the shortest of the others', in each round."""
        rounds = zip(*(self.results[name, cell] for name in self.names), strict=True)
        medians = ([result.ttft_ms(0.5) for result in results] for results in rounds)
        return [ttft[0] / min(ttft[1:]) for ttft in medians]

    def ttft_ms(self, name: str, cell: Cell, quantile: float) -> float:
        return statistics.median(r.ttft_ms(quantile) for r in self.results[name, cell])

    def gap_ms(self, name: str, cell: Cell, quantile: float) -> float:
        return statistics.median(r.itl_ms(quantile) for r in self.results[name, cell])

    def show(self) -> None:
        """The table: medians over the rounds; of ratios also the least and the greatest."""
        speeds = [f"{name}, tok/s" for name in self.names]
        latencies = ("TTFT p50/p99, ms", "ratio", "gap p50/p99, ms")
        print(header("clients", "stream", "tokens", *speeds, "ratio", *latencies))
        for cell in self.cells:
            paces = [f"{self.pace(name, cell):.1f}" for name in self.names]
            told = [str(cell.clients), "yes" if cell.stream else "no", str(cell.tokens)]
            told += [*paces, spread(self.ratios(cell))]
            if cell.stream:
                told.append(self._each(self.ttft_ms, cell))
                told += [spread(self.ttft_ratios(cell)), self._each(self.gap_ms, cell)]
            print(row(*told, *[""] * (len(speeds) + 7 - len(told))))
        for name in self.names:
            print(f"{name}: peak memory {self.peaks[name] / 2**30:.2f} GiB")

    def _each(self, measure: Callable[[str, Cell, float], float], cell: Cell) -> str:
        """The median and the 99th percentile of every server."""
        return " ; ".join(
            f"{measure(name, cell, 0.5):.1f}/{measure(name, cell, 0.99):.1f}" for name in self.names
        )


def spread(values: Sequence[float]) -> str:
    """The median, and between which values all are."""
    middle = f"{statistics.median(values):.3f}"
    return f"{middle} ({min(values):.3f} to {max(values):.3f})" if len(values) > 1 else middle


def compare(
    servers: Sequence[Server],
    cells: Sequence[Cell],
    rounds: int,
    count: Callable[[Cell, Result], int],
    extra: dict[str, object],
    *,
    together: bool = False,
    per_client: int = 2,
) -> Measured:
    """Sends every load to every server, `rounds` times.

    The servers run one after the other, each for all of its loads; or `together`, where all are up
    and take turns at each load, the others stopped (SIGSTOP): what a shared machine gives changes
    within minutes, and this compares what is seconds apart. It needs the memory for all.

    `count` tells the generated tokens of a result; `extra` goes into every request; a load has
    `per_client` requests for each client, and 8 at least. Raises SystemExit where a request fails.
    """
    measured = Measured([server.name for server in servers], cells)

    def measure(server: Server, running: Running, cell: Cell) -> None:
        result = asyncio.run(run(running.url, _load(cell, server, extra, per_client)))
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
    with all_started(servers) as turns:
        for number in range(rounds):
            for cell in cells:
                for server, running in turns[:: -1 if number % 2 else 1]:
                    with running.awake():
                        _warm(running, server, extra)
                        measure(server, running, cell)


def _load(cell: Cell, server: Server, extra: dict[str, object], per_client: int) -> Load:
    requests = max(8, per_client * cell.clients)
    return Load(cell.clients, requests, cell.tokens, cell.stream, server.model, extra)


def _warm(running: Running, server: Server, extra: dict[str, object]) -> None:
    asyncio.run(run(running.url, Load(2, 4, 16, True, server.model, extra)))
