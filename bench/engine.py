"""Tokens per second of the engine alone, without HTTP and Ray: how fast it is, and at what cost.

    python bench/engine.py FOLDER [--dtype bfloat16] [--clients 1 8 32] [--tokens 64] [--rounds 3]

FOLDER holds a model with safetensors weights. Every client sends one prompt of `--prompt` tokens
and gets `--tokens` tokens greedily; the best of `--rounds` rounds is printed. `--cpu-time` adds the
processor seconds of a round, which a busy machine disturbs less than the clock. Rounds repeat their
prompts; with `--prefix-cache` the later ones find them in the cache.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from llm_serve.backends.transformers import checkpoint, kv_memory
from llm_serve.backends.transformers.engine import Engine
from llm_serve.config import TransformersEngine
from llm_serve.sampling import Sampling


def start(folder: Path, config: TransformersEngine, max_running: int) -> Engine:
    """An engine with the weights in `folder`."""
    checkpoint.use_threads(config.threads)
    loaded = checkpoint.load(folder, str(folder), config)
    return Engine(
        loaded.model,
        kv_memory.examine(loaded.model),
        eos_token_ids=loaded.eos_token_ids,
        kv_cache_tokens=config.kv_cache_tokens,
        max_batch_tokens=config.max_batch_tokens,
        max_running=max_running,
        prefix_cache=config.prefix_cache,
    )


async def answer(engine: Engine, ids: Sequence[int], tokens: int) -> tuple[list[int], float]:
    """What is generated greedily after `ids`, and the seconds to its first token."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    began, first = loop.time(), 0.0

    def sink(finished: bool, error: Exception | None) -> None:
        nonlocal first
        first = first or loop.time() - began
        if finished:
            done.set_result(error)

    sampling = Sampling(temperature=0.0, ignore_eos=True)
    request = engine.submit(ids, sampling, tokens, sink)
    assert await done is None
    return request.generated, first


async def round_of(engine: Engine, clients: int, prompt: int, tokens: int) -> None:
    prompts = [[10 + (7 * i + j) % 1000 for j in range(prompt)] for i in range(clients)]
    await asyncio.gather(*(answer(engine, ids, tokens) for ids in prompts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 8, 32])
    parser.add_argument("--prompt", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--prefix-cache", action="store_true")
    args = parser.parse_args()
    config = TransformersEngine(
        dtype=args.dtype,
        device=args.device,
        threads=args.threads,
        prefix_cache=args.prefix_cache,
    )
    engine = start(args.folder, config, max(args.clients))
    asyncio.run(round_of(engine, 2, 8, 4))
    for clients in args.clients:
        best, least = float("inf"), float("inf")
        for _ in range(args.rounds):
            started, cpu = time.perf_counter(), time.process_time()
            asyncio.run(round_of(engine, clients, args.prompt, args.tokens))
            best = min(best, time.perf_counter() - started)
            least = min(least, time.process_time() - cpu)
        line = f"{clients:3} clients {clients * args.tokens / best:8.1f} tokens/s"
        print(line + (f"  {least:6.2f} CPU s" if args.cpu_time else ""), flush=True)
    engine.stop()
    print(f"peak {psutil.Process().memory_info().rss >> 20} MiB resident now")


if __name__ == "__main__":
    main()
