"""The seam between the routes and whatever runs the models."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractContextManager
from typing import Protocol

from llm_serve.api.response_store import Recalled, StoredResponse
from llm_serve.generation.request import GenerationRequest
from llm_serve.status import Loading, ServerStatus


class ComeBack(Exception):
    """The answer is 202: the model is on its way, and the client is asked to come back."""

    def __init__(self, loading: Loading) -> None:
        super().__init__(loading.model.id)
        self.loading = loading


class Readmit(Exception):
    """The model began to leave before the request started: it asks for admission again."""


class ResponseShelf(Protocol):
    """Where responses are stored, for all ingresses. See `llm_serve.api.response_store`.

    `keep` returns once it is done, or cannot be done: it raises nothing. The others raise NotReady
    where nobody answers.
    """

    async def keep(self, response_id: str, stored: StoredResponse) -> None: ...

    async def response(self, owner: str, response_id: str) -> bytes | None: ...

    async def recall(self, owner: str, last: str | None, others: tuple[str, ...]) -> Recalled: ...

    async def forget(self, owner: str, response_id: str) -> bool: ...


class Gateway(Protocol):
    """What the routes need. `status` is in memory and costs no call; `changes` yields it whenever
    it changes, the first at once.

    `place` is kept from when a request begins to wait for its model until its answer has ended, or
    while it runs where it does not wait. It raises QueueFull where there is none.

    `admit` returns at once for a ready model. Else it waits up to `hold_s`, yielding where the load
    stands now and then; without `hold_s` it raises ComeBack. It raises LoadFailed, Conflict, and
    NotReady when `hold_s` is over; closing it gives the wait up.

    `generate` yields the encoded messages of `llm_serve.generation.execution.execute`, a large
    message in pieces. It raises ServeError, before its first message or later, and Readmit if the
    model left before the request started; closing it ends the work within a second.

    `load` asks for a model as an operator and returns where that stands; `unload` asks it to leave.
    """

    @property
    def responses(self) -> ResponseShelf: ...

    def status(self) -> ServerStatus: ...

    def changes(self) -> AsyncGenerator[ServerStatus, None]: ...

    def place(self, request: GenerationRequest) -> AbstractContextManager[None]: ...

    def admit(
        self, request: GenerationRequest, hold_s: float | None
    ) -> AsyncGenerator[Loading, None]: ...

    def generate(self, request: GenerationRequest) -> AsyncGenerator[bytes, None]: ...

    async def load(self, model_id: str) -> Loading | None: ...

    async def unload(self, model_id: str) -> None: ...
