"""Ours against `transformers serve`, same weights, same machine, one run.

    python -m bench.engines [--rounds 2] [--tokens 64] [--clients 1,8,32]

Servers take turns, one at a time: side by side the peer's memory (it takes most of the machine's)
would be measured, not its speed. Answers are greedy, so that all generate the same tokens; tokens
are counted by tokenizing the answers.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from transformers import AutoTokenizer

from bench.client import Result
from bench.compare import Cell, compare
from bench.servers import BIN, Server
from llm_serve.config import default_config
from llm_serve.models import resolve


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
    clients = [int(c) for c in options.clients.split(",")]
    cells = [Cell(c, stream, options.tokens) for c in clients for stream in (True, False)]

    def count(cell: Cell, result: Result) -> int:
        return sum(len(tokenizer(text).input_ids) for text in result.texts)

    compare(servers(folder), cells, options.rounds, count, {"temperature": 0}).show()


if __name__ == "__main__":
    main()
