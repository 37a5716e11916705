"""Time to the first token of every turn of a chat, whose history grows, with and without reuse.

    python -m bench.chat_turns [FOLDER] [--turns 10] [--question 60] [--answer 60] [--rounds 3]

Every turn sends all the turns before it. Without `prefix_cache` the engine reads them again, as it
does where no turn begins like another one. The best of the rounds is printed, in milliseconds.
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from bench.engine import answer, start
from llm_serve.backends.transformers.engine import Engine
from llm_serve.config import TransformersEngine, default_config
from llm_serve.models import resolve


async def chat(engine: Engine, seed: int, turns: int, question: int, tokens: int) -> list[float]:
    """The seconds to the first token of every turn."""
    history: list[int] = []
    waited = []
    for turn in range(turns):
        history += [10 + (31 * seed + 17 * turn + 7 * i) % 1000 for i in range(question)]
        generated, first = await answer(engine, history, tokens)
        history += generated
        waited.append(first)
    return waited


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--question", type=int, default=60)
    parser.add_argument("--answer", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    folder = args.folder or resolve(default_config().default_model)
    for reuse in (False, True):
        config = TransformersEngine(dtype=args.dtype, prefix_cache=reuse)
        engine = start(folder, config, 8)
        rounds = [
            asyncio.run(chat(engine, seed, args.turns, args.question, args.answer))
            for seed in range(args.rounds + 1)
        ]
        best = [min(turn) * 1000 for turn in zip(*rounds[1:], strict=True)]  # the first warms up
        print(f"prefix_cache {reuse!s:5}", *(f"{turn:6.0f}" for turn in best), flush=True)
        engine.stop()


if __name__ == "__main__":
    main()
