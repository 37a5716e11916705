"""The engine: one loop in one thread, many sequences per step.

Only that thread touches the planner, the model and the cache. Others hand it what comes and goes
through a queue; it hands the tokens of a step to the event loop in one call.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from transformers import PreTrainedModel

from llm_serve.backends.output_decoder import RawLogprob
from llm_serve.backends.transformers import sampler, step_planner
from llm_serve.backends.transformers.guides.constraint import Constraint
from llm_serve.backends.transformers.kv_memory import KvMemory, Layer, keeps_meaning
from llm_serve.backends.transformers.pages import PAGE_TOKENS, Pages
from llm_serve.backends.transformers.step import Runner
from llm_serve.errors import EngineDied, InternalError, ServeError
from llm_serve.sampling import Sampling

log = logging.getLogger("llm_serve.backends.transformers")
Sink = Callable[[bool, ServeError | None], None]
"""A sink is told that its request has more tokens: whether it has finished, and the error if it has
failed."""


@dataclass(slots=True, eq=False)
class Submitted:
    """One sequence, from `submit` to `release`. `generated` and `logprobs` grow in the engine's
    thread, the latter first."""

    sequence: step_planner.Sequence
    state: sampler.State
    limit: int
    """Tokens to generate at most."""
    eos: frozenset[int]
    sink: Sink
    loop: asyncio.AbstractEventLoop
    silent: bool
    """Whether the sink is told of the end alone."""
    generated: list[int] = field(default_factory=list)
    ended: bool = False
    """Whether the sequence has ended by itself; set before the sink is told."""

    @property
    def cached_tokens(self) -> int:
        """Tokens of the prompt that were in the cache; known with the first generated token."""
        return self.sequence.cached

    @property
    def logprobs(self) -> list[RawLogprob]:
        return self.state.logprobs


News = tuple[Submitted, bool, ServeError | None]


class Engine:
    """Starts on construction, for a model whose layers `kv_memory.examine` has seen. `capacity` is
    how many tokens the KV cache holds over all sequences; a prompt and its limit together must not
    be more than that."""

    def __init__(
        self,
        model: PreTrainedModel,
        layers: list[Layer],
        *,
        eos_token_ids: Sequence[int],
        kv_cache_tokens: int,
        max_batch_tokens: int,
        max_running: int,
        prefix_cache: bool = True,
    ) -> None:
        count = kv_cache_tokens // PAGE_TOKENS
        self.capacity = count * PAGE_TOKENS
        self.reuses = prefix_cache and keeps_meaning(model)
        self._eos = frozenset(eos_token_ids)
        memory = KvMemory(layers, count, model.device)
        self.cache_bytes = memory.nbytes
        self._runner = Runner(model, memory)
        self._planner = step_planner.StepPlanner(
            Pages(count, reuse=self.reuses),
            max_batch_tokens=max_batch_tokens,
            max_running=max_running,
        )
        self._requests: dict[step_planner.Sequence, Submitted] = {}
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._open = True
        self._thread = threading.Thread(target=self._run, name="continuous-batching", daemon=True)
        self._thread.start()

    def submit(
        self,
        token_ids: Sequence[int],
        sampling: Sampling,
        max_new_tokens: int,
        sink: Sink,
        constraint: Constraint | None = None,
    ) -> Submitted:
        """Queues a sequence; `sink` is called in this event loop after each of its steps, the last
        time when it has finished or failed. `constraint` is what became of `sampling.guide`."""
        sequence = step_planner.Sequence(list(token_ids))
        request = Submitted(
            sequence,
            sampler.State(sampling, constraint),
            max_new_tokens,
            frozenset() if sampling.ignore_eos else self._eos,
            sink,
            asyncio.get_running_loop(),
            silent=sampling.final_only and not sampling.stop,
        )
        self._requests[sequence] = request
        self._inbox.put(lambda: self._planner.add(sequence))
        try:
            self.check()  # after queueing: a loop that ends later fails what is queued
        except EngineDied:
            self._requests.pop(sequence, None)
            raise
        return request

    def release(self, request: Submitted) -> None:
        """Forgets a request; one that has not finished leaves the batch before the next step."""
        if request.sequence in self._requests:
            self._inbox.put(lambda: self._planner.remove(request.sequence))
            self._requests.pop(request.sequence, None)

    @property
    def active(self) -> int:
        """Sequences that hold a place or wait for one."""
        return self._planner.active + self._inbox.qsize()

    def check(self) -> None:
        """Raises `EngineDied` unless the loop runs."""
        if not self._open:
            raise EngineDied("The engine of this model has stopped; it is being started again.")

    def stop(self) -> None:
        """Ends the loop after the step it is in; what runs is failed."""
        self._open = False
        self._inbox.put(lambda: None)
        self._thread.join(timeout=30)

    def _run(self) -> None:
        """The loop, until it is stopped or dies."""
        try:
            with torch.inference_mode():
                while self._open:
                    self._take_in()
                    if self._planner.active and self._open:
                        self._step()
        except Exception:
            log.exception("The engine has stopped.")
        finally:
            # First closed, then told: who submits in between sees one or the other.
            self._open = False
            self._tell(
                [
                    (
                        request,
                        True,
                        EngineDied("The engine stopped while it worked on the request."),
                    )
                    for request in list(self._requests.values())
                ]
            )
            self._requests.clear()

    def _take_in(self) -> None:
        """Does what others have asked for; waits for that while there is nothing to compute."""
        if not self._planner.active:
            self._inbox.get()()
        while not self._inbox.empty():
            self._inbox.get()()

    def _step(self) -> None:
        parts = self._planner.plan()
        if not parts:
            return
        try:
            logits = self._runner.run(parts)
        except torch.OutOfMemoryError:
            if not self._give_up_prompts(parts):
                raise
            return
        self._planner.advance(parts)
        rows, requests = [], []
        for row, part in enumerate(parts):
            # One that was released meanwhile is nobody's request, but still in the plan.
            if part.samples and (request := self._requests.get(part.sequence)) is not None:
                rows.append(row)
                requests.append(request)
        if not requests:
            return
        if len(rows) < len(parts):
            logits = logits[rows]
        tokens = sampler.sample([request.state for request in requests], logits)
        news: list[News] = []
        for request, token in zip(requests, tokens, strict=True):
            constraint = request.state.constraint
            if constraint is not None and constraint.error is not None:
                self._forget(request)
                news.append((request, True, constraint.error))
                continue
            finished = self._append(request, token)
            if finished or not request.silent:
                news.append((request, finished, None))
        self._tell(news)

    def _append(self, request: Submitted, token: int) -> bool:
        """Returns whether the request has finished with this token."""
        request.generated.append(token)
        request.sequence.tokens.append(token)
        constraint = request.state.constraint
        request.ended = token in request.eos or (constraint is not None and constraint.ended)
        finished = request.ended or len(request.generated) >= request.limit
        if finished:
            self._forget(request)
        return finished

    def _give_up_prompts(self, parts: list[step_planner.StepPart]) -> bool:
        """Memory was short for a step. Its prompts fail, without which it takes little, so that the
        others go on. Returns whether there were any."""
        reading = [self._requests.get(part.sequence) for part in parts if part.count > 1]
        failing = [request for request in reading if request is not None]
        for request in failing:
            self._forget(request)
        error = "There was not enough memory to read the prompt. Send a shorter one, or try again."
        self._tell([(request, True, InternalError(error)) for request in failing])
        return bool(failing)

    def _forget(self, request: Submitted) -> None:
        self._planner.remove(request.sequence)
        self._requests.pop(request.sequence, None)

    def _tell(self, news: list[News]) -> None:
        for loop in {request.loop for request, _, _ in news}:
            batch = [
                (request.sink, finished, error)
                for request, finished, error in news
                if request.loop is loop
            ]
            try:
                loop.call_soon_threadsafe(_hand_over, batch)
            except RuntimeError:  # that loop is closed, and with it all who waited there
                continue


def _hand_over(batch: list[tuple[Sink, bool, ServeError | None]]) -> None:
    for sink, finished, error in batch:
        sink(finished, error)
