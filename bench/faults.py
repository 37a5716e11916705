"""What clients see while one process of the server after the other is killed.

    python -m bench.faults [--seconds 40] [--model] [--only NAME ...] [--chaos]

For each process of a server that `llm-serve` started: a chat of one token five times a second, on
connections that are kept and on new ones by turns, and after five seconds kill -9 of that process.
A server that has recovered takes the next row; else a new one is started. Then rows without a kill:
SIGTERM while a stream runs. `--chaos` adds twelve clients over three models and a kill every twelve
seconds for three minutes. The echo backend, unless `--model` asks for the default model. The output
is a table; the exit status is 1 when a goal is missed:

- nobody is refused a connection, and every answer is in this server's own shape, in every row;
- no more than a second between two good answers where HAProxy, its manager or what else of ours
  stands at the door is killed;
- no more than a start of this very run and five seconds where Ray itself is to be started again.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from bench.family import (
    AGENT,
    CONTROLLER,
    DASHBOARD,
    DIRECTOR,
    GCS,
    HAPROXY,
    INGRESS,
    MANAGER,
    MODEL,
    OWN,
    PROXY,
    RAYLET,
    ROLES,
    RUNTIME_ENV,
    Family,
)
from bench.goodbye import goodbye
from bench.living import SLOW, Live, models, recovered, serving
from bench.outcome import CUT, FOREIGN, REFUSED, TIMEOUT
from bench.steady import Seen, crowd, question, steady
from bench.table import header, row

PER_S = 5.0
KILL_AFTER_S = 5.0
PROBE_TIMEOUT_S = 60.0
DOOR_GAP_S = 1.0
RESTART_SLACK_S = 5.0
RESTARTED = (RAYLET, GCS, AGENT, RUNTIME_ENV)
"""What Ray cannot mend: all of it is started again."""
NOTICED_S = 65.0
"""Ray itself notices some of these deaths after a minute only: the outage may come that late."""
CLIENTS, EVERY_S, CHAOS_S = 12, 12.0, 180.0
TURNS = (MODEL, HAPROXY, INGRESS, MANAGER, DIRECTOR, MODEL, CONTROLLER, HAPROXY)
TURNS += (PROXY, DASHBOARD, MODEL, INGRESS, AGENT, HAPROXY, GCS)
"""Who is killed under twelve clients; a Ray that starts is given until the next turn."""


def gap_goal(who: str, live: Live) -> float | None:
    """The longest time without a good answer that is allowed, seconds; None where none is set."""
    if who in RESTARTED or who in live.rays:
        return live.start_s + RESTART_SLACK_S
    if who in (HAPROXY, MANAGER) or who.startswith(OWN):
        return DOOR_GAP_S
    return None


async def one_kill(live: Live, who: str, seconds: float) -> Seen:
    """The load, and the death in it. Raises LookupError where there is no such process."""
    goal = gap_goal(who, live) or 0.0
    if goal > DOOR_GAP_S:
        seconds = max(seconds, KILL_AFTER_S + NOTICED_S + goal + 10)
    if not live.family.of(who):
        raise LookupError(who)
    load = asyncio.create_task(
        steady(
            live.url,
            question(None, max_tokens=1),
            seconds=seconds,
            per_s=PER_S,
            timeout_s=PROBE_TIMEOUT_S,
        )
    )
    await asyncio.sleep(KILL_AFTER_S)
    await asyncio.to_thread(kill, live.family, who, live.model)
    return await load


def kill(family: Family, who: str, model: str | None = None) -> bool:
    """kill -9 of one process of that kind, or of the replica of that model; False where there is
    none."""
    found = family.replicas(model) if who == MODEL and model is not None else family.of(who)
    if found:
        found[0].kill()
    return bool(found)


async def chaos(live: Live, names: list[str]) -> Seen:
    bodies = [question(name, max_tokens=1) for name in names]
    load = asyncio.create_task(
        crowd(live.url, bodies, count=CLIENTS, seconds=CHAOS_S, timeout_s=PROBE_TIMEOUT_S)
    )
    for who in TURNS[: int(CHAOS_S / EVERY_S)]:
        await asyncio.sleep(EVERY_S)
        if not await asyncio.to_thread(kill, live.family, who):
            print(f"no {who} to kill at that moment", file=sys.stderr)
    return await load


class Table:
    """Prints each row as it comes and remembers which goals were missed."""

    def __init__(self) -> None:
        self.missed: list[str] = []
        columns = ("200", "202", "other of ours", "foreign", "refused", "cut", "timeout")
        print(header("killed with -9", *columns, "worst gap", "goal", "met"))

    def add(self, name: str, seen: Seen, goal: float | None) -> None:
        gap, ended = seen.worst_gap()
        missed = [kind for kind in (FOREIGN, REFUSED) if seen.kinds[kind]]
        if goal is not None and gap > goal:
            missed.append("gap")
        if missed:
            self.missed.append(f"{name}: {', '.join(missed)}")
        counts = [str(seen.kinds[kind]) for kind in (FOREIGN, REFUSED, CUT, TIMEOUT)]
        other = ", ".join(f"{kind}: {count}" for kind, count in seen.other_ours()) or "0"
        wanted = "0 foreign, 0 refused" + (f", {goal:.1f} s" if goal is not None else "")
        print(
            row(
                name,
                str(seen.kinds["200"]),
                str(seen.kinds["202"]),
                other,
                *counts,
                f"{gap:.1f} s" if ended else f"{gap:.1f} s, not ended",
                wanted,
                "no" if missed else "yes",
            ),
            flush=True,
        )
        for note in seen.notes:
            print(f"{name}: foreign: {note}", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--model", action="store_true", help="the default model, not echo")
    parser.add_argument("--only", action="append", help="a row's name, or a part of it")
    parser.add_argument("--chaos", action="store_true", help="the row of twelve clients as well")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        missed = run(Path(temporary), options)
    for line in missed:
        print(f"missed: {line}", file=sys.stderr)
    sys.exit(1 if missed else 0)


def run(folder: Path, options: argparse.Namespace) -> list[str]:
    """Every row; what was missed."""

    def wanted(name: str) -> bool:
        return not options.only or any(part.lower() in name.lower() for part in options.only)

    table = Table()
    rest: list[str] | None = None
    starts: list[float] = []
    while rest is None or rest:
        with serving(folder, real=options.model) as live:
            starts.append(live.start_s)
            if rest is None:
                own = sorted(role for role in live.baseline if role.startswith(OWN))
                rest = [role for role in (*ROLES, *own) if wanted(role)]
            while rest:
                who = rest.pop(0)
                try:
                    seen = asyncio.run(one_kill(live, who, options.seconds))
                except LookupError:
                    print(f"this server has no {who}", file=sys.stderr)
                    continue
                table.add(who, seen, gap_goal(who, live))
                if rest and not recovered(live):
                    break
    if options.chaos:
        with serving(folder, real=options.model) as live:
            names = [model["id"] for model in models(real=options.model)[:3]]
            seen = asyncio.run(chaos(live, names))
        table.add(f"{CLIENTS} clients, a kill every {EVERY_S:.0f} s", seen, None)
    missed = table.missed
    if wanted("SIGTERM"):
        with serving(folder, real=options.model) as live:
            missed += goodbye(live.url, live.family, SLOW)
    print(f"\nA start took {min(starts):.1f} to {max(starts):.1f} s.")
    return missed


if __name__ == "__main__":
    main()
