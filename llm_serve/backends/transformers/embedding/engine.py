"""The loop of an embedding model: one thread that computes batch after batch.

Only that thread touches the batches and the model. Others hand it what comes and goes through a
queue; it hands the rows of a whole request to the event loop in one call.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from llm_serve.backends.transformers.embedding.batches import Batches
from llm_serve.errors import EngineDied, InternalError, ServeError

log = logging.getLogger("llm_serve.backends.transformers")
Row = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Input:
    """One text as the model reads it."""

    token_ids: Sequence[int]
    prompt_tokens: int = 0
    """Of them, from the first on, that are the checkpoint's own prompt."""
    types: Sequence[int] = ()
    """Of each token, whether it is the first text's or the second's, for a model that is told."""


Compute = Callable[[list[Input]], torch.Tensor]
"""Gives a row of each input, `[inputs, size]`, float32, in the host's memory."""


@dataclass(slots=True, eq=False)
class _Request:
    """The inputs of one request, whose rows come batch by batch."""

    inputs: list[Input]
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[list[Row]]
    left: int
    rows: dict[int, Row] = field(default_factory=dict)

    def tell(self, outcome: list[Row] | ServeError) -> None:
        """Called from any thread."""
        with suppress(RuntimeError):  # that loop is closed, and with it all who waited there
            self.loop.call_soon_threadsafe(self._settle, outcome)

    def _settle(self, outcome: list[Row] | ServeError) -> None:
        if self.done.done():
            return
        if isinstance(outcome, ServeError):
            self.done.set_exception(outcome)
        else:
            self.done.set_result(outcome)


class Engine:
    """Starts on construction. A batch holds `max_batch_tokens`, or one input that is longer."""

    def __init__(self, compute: Compute, max_batch_tokens: int) -> None:
        self._compute = compute
        self._batches: Batches[_Request] = Batches(max_batch_tokens)
        self._requests: set[_Request] = set()
        self._inbox: queue.SimpleQueue[Callable[[], Any]] = queue.SimpleQueue()
        self._open = True
        self._thread = threading.Thread(target=self._run, name="embedding", daemon=True)
        self._thread.start()

    async def encode(self, inputs: list[Input]) -> list[Row]:
        """A row of each input. Raises EngineDied and InternalError; cancelled, it leaves its place
        before the next batch."""
        loop = asyncio.get_running_loop()
        request = _Request(inputs, loop, loop.create_future(), len(inputs))
        self._requests.add(request)
        try:
            self._inbox.put(
                lambda: self._batches.add(request, [len(one.token_ids) for one in inputs])
            )
            self.check()  # after queueing: a loop that ends later fails what is queued
            return await request.done
        finally:
            self._requests.discard(request)
            if len(request.rows) < len(inputs):
                self._inbox.put(lambda: self._batches.remove(request))

    @property
    def active(self) -> int:
        """Requests that are computed or wait."""
        return len(self._requests)

    def check(self) -> None:
        """Raises `EngineDied` unless the loop runs."""
        if not self._open:
            raise EngineDied("The engine of this model has stopped; it is being started again.")

    def stop(self) -> None:
        """Ends the loop after the batch it is in; what waits is failed."""
        self._open = False
        self._inbox.put(lambda: None)
        self._thread.join(timeout=30)

    def _run(self) -> None:
        try:
            with torch.inference_mode():
                while self._open:
                    self._take_in()
                    if self._open:
                        self._step()
        except Exception:
            log.exception("The engine has stopped.")
        finally:
            # First closed, then told: who asks in between sees one or the other.
            self._open = False
            for request in list(self._requests):
                request.tell(EngineDied("The engine stopped while it worked on the request."))

    def _take_in(self) -> None:
        """Does what others have asked for; waits for that while there is nothing to compute."""
        if not self._batches:
            self._inbox.get()()
        while not self._inbox.empty():
            self._inbox.get()()

    def _step(self) -> None:
        batch = self._batches.next()
        if not batch:
            return
        try:
            rows = self._compute([request.inputs[number] for request, number in batch])
        except torch.OutOfMemoryError:
            self._fail(
                {request for request, _ in batch},
                "There was not enough memory for the input. Send a shorter one, or try again.",
            )
            return
        finite = torch.isfinite(rows).all(dim=1).tolist()
        wrong = {request for (request, _), good in zip(batch, finite, strict=True) if not good}
        self._fail(
            wrong,
            "The model computed what is no number, as happens where its dtype has too small a "
            "range; set engine.dtype to float32.",
        )
        for (request, number), row in zip(batch, rows.numpy(), strict=True):
            request.rows[number] = row
            if len(request.rows) == len(request.inputs) and request not in wrong:
                request.tell([request.rows[i] for i in range(len(request.inputs))])

    def _fail(self, requests: set[_Request], why: str) -> None:
        for request in requests:
            self._batches.remove(request)
            request.tell(InternalError(why))
