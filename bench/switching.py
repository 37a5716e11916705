"""What a switch costs: from the request for a model that is not loaded to its first token.

    python -m bench.switching [--rounds 5] [--pause 12] [--steps] [--before CHECKOUT]

Two ids of the default model, and room for one; a server with a warm worker, then one without. The
floor is a fresh process that imports the engine, loads the same weights and makes one token: one
after each switch, beside the same idle server, so that noise hits both. `--pause` lets a new warm
worker come up between two switches, as people's pauses do. `--steps` says where the time goes, from
`GET /v1/events`. `--before` has the server of another checkout take turns with this one's. The
output is a table: the median of each, the worst, the ratio to the floor, and of ours to the other
checkout's in the same round.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from bench.compare import spread
from bench.servers import Running, add_before, all_started, before, llm_serve
from bench.table import header, row
from llm_serve.config import DEFAULT_SOURCE, default_config
from llm_serve.models import resolve

IDS = ("model/a", "model/b")
Steps = dict[str, float]
"""Seconds after the request, by `new|old state stage`."""


def config(*, warm: bool) -> dict[str, Any]:
    first, second = ({"id": model_id, "source": DEFAULT_SOURCE} for model_id in IDS)
    residency = {"max_resident": 1, "min_residency_s": 0, "warm_worker": warm}
    return {"models": [{**first, "preload": True}, second], "residency": residency}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pause", type=float, default=12.0)
    parser.add_argument("--steps", action="store_true")
    add_before(parser)
    options = parser.parse_args()
    weights = resolve(default_config().default_model)
    times: dict[str, list[float]] = defaultdict(list)
    steps: dict[str, list[Steps]] = defaultdict(list)

    def measure(name: str, running: Running, model: str, *, count: bool) -> None:
        with running.awake():
            time.sleep(options.pause)
            took, seen = switch(running.url, model)
            alone = floor(weights)
        if count:
            times[name].append(took)
            steps[name].append(seen)
            times["floor"].append(alone)

    with tempfile.TemporaryDirectory() as folder:
        for worker in ("warm", "cold"):
            path = Path(folder) / f"{worker}.yaml"
            servers = [llm_serve(path, config(warm=worker == "warm"))]
            if options.before:
                servers.append(before(servers[0], options.before))
            with all_started(servers) as turns:
                for number in range(options.rounds + 1):
                    for server, running in turns[:: -1 if number % 2 else 1]:
                        name = worker if server is servers[0] else f"{worker}, {server.name}"
                        model = IDS[(number + 1) % 2]
                        # The first is for the page cache.
                        measure(name, running, model, count=number > 0)
    show(times)
    for name, seen in steps.items() if options.steps else ():
        print(f"\n{name}: seconds after the request")
        for step in seen[0]:
            print(f"  {statistics.median(s[step] for s in seen if step in s):5.2f}  {step}")


def show(times: dict[str, list[float]]) -> None:
    low = statistics.median(times["floor"])
    print(header("", "median", "worst", "over the floor", "now / before"))
    for name, values in times.items():
        middle = statistics.median(values)
        earlier = times.get(f"{name}, before")
        ratio = ""
        if earlier is not None:
            ratio = spread([a / b for a, b in zip(values, earlier, strict=True)])
        cells = [f"{middle:.2f} s", f"{max(values):.2f} s", f"{middle / low:.2f}", ratio]
        print(row(name, *cells))


def switch(url: str, model: str) -> tuple[float, Steps]:
    """Seconds from sending the request to the first text of the answer, and the steps between."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "Say hello"}],
        "max_tokens": 4,
        "stream": True,
    }
    with recorded(url, model) as steps, httpx.Client(timeout=300) as client:
        begin = time.perf_counter()
        steps.clear()
        headers = {"Prefer": "wait=120"}
        with client.stream(
            "POST", f"{url}/v1/chat/completions", json=body, headers=headers
        ) as response:
            for line in response.iter_lines():
                if line.startswith("data: {"):
                    chunk = json.loads(line[6:])
                    if "error" in chunk:
                        raise SystemExit(f"{model}: {chunk['error']['message']}")
                    if chunk["choices"] and chunk["choices"][0]["delta"].get("content"):
                        took = time.perf_counter() - begin
                        return took, {step: at - begin for step, at in steps.items()}
            raise SystemExit(f"{model}: {response.status_code}, no text came")


@contextmanager
def recorded(url: str, wanted: str) -> Iterator[Steps]:
    """When each state and stage of the wanted and the other model was first seen."""
    steps: Steps = {}
    ready = threading.Event()
    client = httpx.Client(timeout=None)

    def listen() -> None:
        with suppress(httpx.HTTPError, RuntimeError), client.stream("GET", f"{url}/v1/events") as e:
            for line in e.iter_lines():
                if line.startswith("data: "):
                    for model in json.loads(line[6:])["models"]:
                        which = "new" if model["id"] == wanted else "old"
                        words = (which, model["status"], model.get("load_stage") or "")
                        steps.setdefault(" ".join(words).strip(), time.perf_counter())
                    ready.set()

    threading.Thread(target=listen, daemon=True).start()
    ready.wait(10)
    try:
        yield steps
    finally:
        client.close()


def floor(folder: Path) -> float:
    """Seconds of a whole fresh process."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-m", "bench.fresh", str(folder)], check=True)
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
