"""Ours against `transformers serve`, same weights, same machine, one run.

    python -m bench.engines [--rounds 2] [--tokens 64] [--clients 1,8,32] [--before CHECKOUT]
    python -m bench.engines --structured [--rounds 2] [--tokens 64] [--clients 1,8,32]

Servers take turns, one at a time: side by side the peer's memory (it takes most of the machine's)
would be measured, not its speed. Answers are greedy, so that all generate the same tokens; tokens
are counted by tokenizing the answers. `--before` compares with another checkout's llm-serve, and
with nobody else; then both are up and take turns at each load, the other stopped. `--structured`
compares answers that are held to a JSON Schema with plain ones, of ours and of vLLM's own server
(without its compilation), which takes turns with it.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from transformers import AutoTokenizer

from bench.client import Result
from bench.compare import Cell, compare
from bench.servers import BIN, Server, add_before, before, llm_serve
from bench.structured import compare_structured
from bench.vllm import ENGINE, bare
from llm_serve.config import default_config
from llm_serve.models import resolve


def peers(folder: Path) -> list[Server]:
    """Both read the folder of our weights and run in bfloat16, as we do."""
    name, model = "transformers serve", str(folder)
    command = [str(BIN / "transformers"), "serve", model, "--dtype", "bfloat16"]
    command += ["--port", "{port}", "--host", "127.0.0.1"]
    batching = "--continuous-batching"
    return [
        Server(f"{name} {batching}", [*command, batching], "/health", model=model),
        Server(name, command, "/health", model=model),
    ]


def structured(weights: Path, options: argparse.Namespace) -> None:
    clients = [int(c) for c in options.clients.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        config = default_config().model_dump(mode="json", exclude_unset=True)
        ours = llm_serve(Path(folder) / "ours.yaml", config)
        vllm = bare(weights, {**ENGINE, "enforce_eager": True})
        compare_structured([ours, vllm], clients, options.tokens, options.rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--clients", default="1,8,32")
    parser.add_argument("--structured", action="store_true")
    add_before(parser)
    options = parser.parse_args()
    config = default_config()
    weights = resolve(config.default_model)
    if options.structured:
        structured(weights, options)
        return
    tokenizer = AutoTokenizer.from_pretrained(weights)
    clients = [int(c) for c in options.clients.split(",")]
    cells = [Cell(c, stream, options.tokens) for c in clients for stream in (True, False)]

    def count(cell: Cell, result: Result) -> int:
        return sum(len(tokenizer(text).input_ids) for text in result.texts)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ours.yaml"
        ours = llm_serve(path, config.model_dump(mode="json", exclude_unset=True))
        others = [before(ours, options.before)] if options.before else peers(weights)
        measured = compare(
            [ours, *others],
            cells,
            options.rounds,
            count,
            {"temperature": 0},
            together=options.before is not None,
        )
    measured.show()


if __name__ == "__main__":
    main()
