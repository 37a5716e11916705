"""Tokens per second of the engine alone, without HTTP and Ray: our paged attention against stock.

    python bench/engine.py FOLDER [--dtype bfloat16] [--clients 1 8 32] [--tokens 64] [--rounds 3]

FOLDER holds a model with safetensors weights. Every client sends one prompt of `--prompt` tokens
and gets `--tokens` tokens greedily; the best of `--rounds` rounds is printed. `--cpu-time` adds the
processor seconds of a round, which a busy machine disturbs less than the clock.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from pathlib import Path

import psutil

from llm_serve.backends import checkpoint, continuous
from llm_serve.backends.base import Sampling
from llm_serve.config import TransformersEngine


async def round_of(engine: continuous.Engine, clients: int, prompt: int, tokens: int) -> None:
    loop = asyncio.get_running_loop()

    async def client(i: int) -> None:
        done = loop.create_future()
        ids = [10 + (7 * i + j) % 1000 for j in range(prompt)]
        sampling = Sampling(temperature=0.0, ignore_eos=True)
        request_id, _ = engine.submit(
            ids, sampling, tokens, lambda out: out.is_finished() and done.set_result(out.error)
        )
        assert await done is None
        engine.release(request_id, finished=True)

    await asyncio.gather(*(client(i) for i in range(clients)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--attention", nargs="*", default=["stock", "auto"])
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 8, 32])
    parser.add_argument("--prompt", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--cpu-time", action="store_true")
    args = parser.parse_args()
    config = TransformersEngine(dtype=args.dtype, device=args.device, threads=args.threads)
    checkpoint.use_threads(config.threads)
    for attention in args.attention:
        loaded = checkpoint.load(args.folder, str(args.folder), config)
        engine = continuous.Engine(
            loaded.model,
            eos_token_ids=loaded.eos_token_ids,
            kv_cache_tokens=config.kv_cache_tokens,
            max_batch_tokens=config.max_batch_tokens,
            max_running=max(args.clients),
            attention=attention,
        )
        asyncio.run(round_of(engine, 2, 8, 4))
        for clients in args.clients:
            best, least = float("inf"), float("inf")
            for _ in range(args.rounds):
                started, cpu = time.perf_counter(), time.process_time()
                asyncio.run(round_of(engine, clients, args.prompt, args.tokens))
                best = min(best, time.perf_counter() - started)
                least = min(least, time.process_time() - cpu)
            line = f"{attention:6} {clients:3} clients {clients * args.tokens / best:8.1f} tokens/s"
            print(line + (f"  {least:6.2f} CPU s" if args.cpu_time else ""), flush=True)
        engine.stop()
    print(f"peak {psutil.Process().memory_info().rss >> 20} MiB resident now")


if __name__ == "__main__":
    main()
