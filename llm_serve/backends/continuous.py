"""The engine: transformers' continuous batching, one loop in one thread, many sequences per step.

We drive the manager below its public face, because that face cannot sample per request, keeps the
outputs of cancelled requests for ever, and dies or stalls under memory pressure. What we rely on is
listed in `RELIED_ON`; a test asserts that all of it exists, and the version is pinned.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable, Sequence
from typing import Any, Literal

from transformers import GenerationConfig, PreTrainedModel
from transformers.generation.configuration_utils import ContinuousBatchingConfig
from transformers.generation.continuous_batching.continuous_api import OutputRouter
from transformers.generation.continuous_batching.requests import GenerationOutput, RequestStatus
from transformers.generation.continuous_batching.scheduler import SCHEDULER_MAPPING, FIFOScheduler

from llm_serve.backends import paged_attention, sampler
from llm_serve.backends.base import Sampling
from llm_serve.errors import EngineDied

PAGE_TOKENS = 32
"""A sequence takes whole pages; small ones waste little of a small cache."""
NO_EOS = [-1]

RELIED_ON = {
    "continuous_api.ContinuousBatchingManager": (
        "_create_batch_processor",
        "_run_generation_loop",
        "add_request",
        "cancel_request",
        "stop",
    ),
    "continuous_api.ContinuousBatchProcessor": ("prepare_next_batch", "update_batch"),
    "continuous_api.OutputRouter": ("deliver", "deliver_batch", "fail_and_deliver"),
    "continuous_api.BackgroundThreadStatus": ("can_accept_new_requests", "clear"),
    "scheduler.FIFOScheduler": ("schedule_batch", "reset"),
    "cb_logits_processors.ContinuousBatchingLogitsProcessorList": (
        "check_kwargs",
        "prepare_tensor_args",
        "fill_defaults",
        "__call__",
    ),
    "requests.GenerationOutput": ("is_finished",),
    "cache_allocators.FullAttentionCacheAllocator": ("update", "get_cache_for_block_table"),
}
"""Methods under `transformers.generation.continuous_batching` that are not documented to stay."""

RELIED_ON_ATTRIBUTES = {
    "continuous_api.ContinuousBatchingManager": (
        "logit_processor",
        "output_router",
        "batch_processor",
        "continuous_batching_config",
        "background_thread_status",
        "_generation_thread",
    ),
    "scheduler.Scheduler": ("active_requests", "waiting_requests", "block_new_requests"),
    "cache.PagedAttentionCache": ("cache_tensor", "cache_allocators", "layer_to_allocator"),
}
"""Attributes there that `__init__` or `reset` sets."""

Sink = Callable[[GenerationOutput], None]


class Scheduler(FIFOScheduler):  # type: ignore[misc]
    """First come, first served, without a stall.

    Upstream stops admitting when it has evicted a sequence, and admits again when one finishes. If
    the others are cancelled instead, none ever finishes.
    """

    def schedule_batch(self, token_budget: int, cache_budget: int) -> Any:
        if not self.active_requests:
            self.block_new_requests = False
        return super().schedule_batch(token_budget, cache_budget)


class Router(OutputRouter):  # type: ignore[misc]
    """Hands the outputs of a step to the event loop in one call; drops those nobody waits for."""

    def __init__(self) -> None:
        super().__init__()
        self._sinks: dict[str, tuple[Sink, asyncio.AbstractEventLoop]] = {}

    def open(self, request_id: str, sink: Sink) -> None:
        self._sinks[request_id] = (sink, asyncio.get_running_loop())

    def close(self, request_id: str) -> None:
        self._sinks.pop(request_id, None)

    def end(self) -> None:
        """Tells all who wait that nothing will come. Those who open later must look for
        themselves."""
        error = "The engine has stopped."
        self.deliver_batch(
            [
                GenerationOutput(request_id, [], status=RequestStatus.FAILED, error=error)
                for request_id in list(self._sinks)
            ]
        )

    def deliver(self, output: GenerationOutput) -> None:
        self.deliver_batch([output])

    def deliver_batch(self, outputs: list[GenerationOutput]) -> None:
        waiting = [
            (*entry, output)
            for output in outputs
            if (entry := self._sinks.get(output.request_id)) is not None
        ]
        for loop in {loop for _, loop, _ in waiting}:
            batch = [(sink, output) for sink, its_loop, output in waiting if its_loop is loop]
            try:
                loop.call_soon_threadsafe(_hand_over, batch)
            except RuntimeError:  # that loop is closed, and with it all who waited there
                continue


def _hand_over(batch: list[tuple[Sink, GenerationOutput]]) -> None:
    for sink, output in batch:
        sink(output)


class Engine:
    """Starts on construction. `capacity` is how many tokens the KV cache holds over all sequences;
    a sequence longer than that must not be submitted, it would end the loop."""

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        eos_token_ids: Sequence[int],
        kv_cache_tokens: int,
        max_batch_tokens: int,
        max_running: int,
        attention: Literal["auto", "stock"] = "auto",
    ) -> None:
        SCHEDULER_MAPPING["llm_serve"] = Scheduler
        pages = kv_cache_tokens // PAGE_TOKENS
        self.capacity = pages * PAGE_TOKENS
        self._eos = list(eos_token_ids) or NO_EOS
        self._ids = itertools.count()
        self._manager = model.init_continuous_batching(
            GenerationConfig(do_sample=False, eos_token_id=self._eos),
            continuous_batching_config=ContinuousBatchingConfig(
                page_size=PAGE_TOKENS,
                num_blocks=pages,
                max_batch_tokens=max_batch_tokens,
                max_requests_per_batch=min(max_running, max_batch_tokens),
                max_memory_percent=1.0,
                scheduler_type="llm_serve",
                use_cuda_graph=False,
                use_async_batching=False,
                auto_switch_to_flash=False,
            ),
        )
        if attention == "auto" and paged_attention.fits(model):
            paged_attention.install(model)
            # Steps that only decode then come with a table of pages instead of long index lists.
            longest = -(-model.config.max_position_embeddings // PAGE_TOKENS)
            self._manager.continuous_batching_config.max_blocks_per_request = min(pages, longest)
        self._manager.logit_processor = sampler.Sampler()
        self._router = self._manager.output_router = Router()
        self._manager.batch_processor = self._manager._create_batch_processor()
        # Our own thread, as a daemon: the manager's would keep a dying worker alive.
        self._thread = threading.Thread(target=self._run, name="continuous-batching", daemon=True)
        self._manager._generation_thread = self._thread
        self._manager.background_thread_status.clear()
        self._thread.start()

    def _run(self) -> None:
        """The loop, until it is stopped or dies. It fails what it knows of then; what it has lost,
        or cannot fail for the same reason that it died of, is failed here."""
        try:
            self._manager._run_generation_loop()
        finally:
            self._router.end()

    def submit(
        self,
        token_ids: Sequence[int],
        sampling: Sampling,
        max_new_tokens: int,
        sink: Sink,
    ) -> tuple[str, sampler.Sequence]:
        """Queues a sequence; `sink` is called in this event loop with all its tokens so far, at
        most once per step, the last time with a finished or failed output."""
        sequence = sampler.Sequence(sampling)
        request_id = f"{next(self._ids)}"
        self._router.open(request_id, sink)
        self._manager.add_request(
            list(token_ids),
            request_id,
            max_new_tokens=max_new_tokens,
            streaming=True,
            eos_token_id=NO_EOS if sampling.ignore_eos else self._eos,
            sequence=sequence,
        )
        try:
            self.check()  # after queueing: a loop that dies later fails what is queued
        except EngineDied:
            self._router.close(request_id)
            raise
        return request_id, sequence

    def release(self, request_id: str, *, finished: bool) -> None:
        """Forgets a sequence; one that has not finished leaves the batch before the next step."""
        self._router.close(request_id)
        if not finished:
            self._manager.cancel_request(request_id)

    @property
    def active(self) -> int:
        """Sequences that hold a place or wait for one."""
        scheduler = self._manager.batch_processor.scheduler
        return len(scheduler.active_requests) + len(scheduler.waiting_requests)

    @property
    def cache_bytes(self) -> int:
        return int(self._manager.batch_processor.cache.cache_tensor.nbytes)

    def check(self) -> None:
        """Raises `EngineDied` unless the loop runs."""
        denied = self._manager.background_thread_status.can_accept_new_requests()
        if denied is not None or not self._thread.is_alive():
            raise EngineDied("The engine of this model has stopped; it is being started again.")

    def stop(self) -> None:
        """Ends the loop after the step it is in; what runs is failed."""
        self._manager.stop(block=True, timeout=30, hard_stop=True)
