"""Our vLLM backend against vLLM's own server, same engine arguments, same machine, one run.

    python -m bench.vllm [--rounds 3] [--clients 1,8,32] [--tokens 64,256] [--eager]
        [--ray-llm PYTHON] [--before CHECKOUT]

All servers are up and take turns at each load, the others stopped. Answers are greedy and as long
as was asked, so that tokens need not be counted. `--eager` leaves out vLLM's compilation in all.
`--ray-llm` names a Python that has Ray Serve LLM; see `bench/ray_serve_llm.py`. `--before` compares
with our backend in another checkout, and with nobody else.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.client import Result
from bench.compare import Cell, compare
from bench.servers import Server, add_before, before, llm_serve
from llm_serve.config import DEFAULT_SOURCE, default_config
from llm_serve.models import resolve

MODEL = "bench/model"
ENGINE: dict[str, Any] = {
    "dtype": "bfloat16",
    "max_model_len": 2048,
    "max_num_seqs": 32,
    "kv_cache_memory_bytes": 2**30,
}


def ours(folder: Path, engine: dict[str, Any]) -> Server:
    model: dict[str, Any] = {"id": MODEL, "source": DEFAULT_SOURCE, "backend": "vllm"}
    model |= {"engine": engine, "preload": True, "max_running": 32}
    return llm_serve(folder / "ours.yaml", {"models": [model]}, MODEL)


def bare(weights: Path, engine: dict[str, Any]) -> Server:
    """What vLLM brings."""
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(weights)]
    command += ["--served-model-name", MODEL, "--host", "127.0.0.1", "--port", "{port}"]
    for name, value in engine.items():
        flag = f"--{name.replace('_', '-')}"
        command += [flag] if value is True else [flag, str(value)]
    return Server("vLLM's server", command, "/health", model=MODEL)


def ray_serve_llm(python: str, weights: Path, engine: dict[str, Any]) -> Server:
    """The peer that is nearest to us, with the vLLM that it supports."""
    script = str(Path(__file__).with_name("ray_serve_llm.py"))
    # `{port}` is filled in by `format`: the braces of JSON are doubled.
    kwargs = json.dumps(engine).replace("{", "{{").replace("}", "}}")
    command = [python, "-P", script, MODEL, str(weights), "{port}", kwargs]
    return Server("Ray Serve LLM", command, "/v1/models", MODEL, model=MODEL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", default="1,8,32")
    parser.add_argument("--tokens", default="64,256")
    parser.add_argument("--eager", action="store_true")
    parser.add_argument("--ray-llm", metavar="PYTHON")
    add_before(parser)
    options = parser.parse_args()
    cells = [
        Cell(int(clients), stream, int(tokens))
        for tokens in options.tokens.split(",")
        for clients in options.clients.split(",")
        for stream in (True, False)
    ]
    engine = {**ENGINE, "enforce_eager": True} if options.eager else ENGINE

    def count(cell: Cell, result: Result) -> int:
        return len(result.texts) * cell.tokens

    extra: dict[str, object] = {"temperature": 0, "ignore_eos": True}
    with tempfile.TemporaryDirectory() as folder:
        peers = [ours(Path(folder), engine)]
        if options.before:
            peers.append(before(peers[0], options.before))
        else:
            weights = resolve(default_config().default_model)
            peers.append(bare(weights, engine))
            if options.ray_llm:
                peers.append(ray_serve_llm(options.ray_llm, weights, engine))
        compare(peers, cells, options.rounds, count, extra, together=True).show()


if __name__ == "__main__":
    main()
