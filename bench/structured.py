"""What it costs to hold answers to a JSON Schema: each server against itself, by turns.

Plain answers go on to their last token, and the schema asks for more than there are tokens, so that
both have equally many.
"""

from __future__ import annotations

import asyncio
import statistics
from collections import defaultdict
from collections.abc import Sequence

from bench.client import Load, run
from bench.compare import spread
from bench.servers import Running, Server, all_started
from bench.table import header, row

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 3, "maxLength": 40},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "trade": {"enum": ["baker", "doctor", "farmer", "sailor", "teacher"]},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 20}, "maxItems": 3},
    },
    "required": ["name", "age", "trade", "tags"],
    "additionalProperties": False,
}
SCHEMA = {
    "type": "object",
    "properties": {"people": {"type": "array", "items": PERSON, "minItems": 50}},
    "required": ["people"],
    "additionalProperties": False,
}
PLAIN: dict[str, object] = {"temperature": 0, "ignore_eos": True}
HELD: dict[str, object] = {
    "temperature": 0,
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "people", "schema": SCHEMA},
    },
}
Speeds = dict[tuple[str, int, bool], list[float]]


def compare_structured(
    servers: Sequence[Server], clients: Sequence[int], tokens: int, rounds: int
) -> None:
    """Prints a table: of every server, plain and held answers, and the ratio of the two; then the
    ratio of the first server's held ones to the second's."""
    speeds: Speeds = defaultdict(list)

    def measure(server: Server, running: Running, count: int, held: bool) -> None:
        load = Load(count, max(8, 2 * count), tokens, True, server.model, HELD if held else PLAIN)
        result = asyncio.run(run(running.url, load))
        if result.failed:
            raise SystemExit(f"{server.name}: {result.failed[:3]}")
        speeds[server.name, count, held].append(len(result.texts) * tokens / result.wall_s)

    with all_started(servers) as turns:
        for server, running in turns:
            with running.awake():
                for extra in (PLAIN, HELD):
                    asyncio.run(run(running.url, Load(2, 4, 16, True, server.model, extra)))
        for number in range(rounds):
            for count in clients:
                for server, running in turns[:: -1 if number % 2 else 1]:
                    with running.awake():
                        for held in (False, True)[:: -1 if number % 2 else 1]:
                            measure(server, running, count, held)
    _show([server.name for server in servers], clients, speeds)


def _show(names: Sequence[str], clients: Sequence[int], speeds: Speeds) -> None:
    columns = [
        column
        for name in names
        for column in (f"{name}, plain tok/s", f"{name}, schema tok/s", "ratio")
    ]
    several = len(names) > 1
    print(header("clients", *columns, *(["schema, first to second"] if several else [])))
    for count in clients:
        told = [str(count)]
        for name in names:
            plain, held = speeds[name, count, False], speeds[name, count, True]
            told += [f"{statistics.median(plain):.1f}", f"{statistics.median(held):.1f}"]
            told.append(spread([h / p for p, h in zip(plain, held, strict=True)]))
        if several:
            first, second = (speeds[name, count, True] for name in names[:2])
            told.append(spread([a / b for a, b in zip(first, second, strict=True)]))
        print(row(*told))
