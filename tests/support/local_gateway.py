"""A gateway over backends in this process, without Ray: for tests, and the floor in benchmarks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, contextmanager

from llm_serve.api.response_store import Recalled, ResponseStore, StoredResponse
from llm_serve.backends import create
from llm_serve.backends.base import Backend
from llm_serve.config import Config
from llm_serve.errors import Conflict, LoadFailed, QueueFull
from llm_serve.generation.execution import execute
from llm_serve.generation.request import GenerationRequest
from llm_serve.status import Loading, ModelStatus, ServerState, ServerStatus


class LocalShelf:
    """`llm_serve.api.gateway.ResponseShelf` over a store in this process."""

    def __init__(self, store: ResponseStore) -> None:
        self.store = store

    async def keep(self, response_id: str, stored: StoredResponse) -> None:
        self.store.keep(response_id, stored)

    async def response(self, owner: str, response_id: str) -> bytes | None:
        return self.store.response(owner, response_id)

    async def recall(self, owner: str, last: str | None, others: tuple[str, ...]) -> Recalled:
        return self.store.recall(owner, last, others)

    async def forget(self, owner: str, response_id: str) -> bool:
        return self.store.forget(owner, response_id)


class LocalGateway:
    """Every model of the configuration, loaded by `start`; but for those in `loaded`, which are
    another's to close."""

    def __init__(self, config: Config, loaded: Mapping[str, Backend] | None = None) -> None:
        self.config = config
        self.created = int(time.time())
        self.responses = LocalShelf(ResponseStore(config.server.response_store_bytes))
        self.loaded = loaded or {}
        made = {m.id: create(m) for m in config.models if m.id not in self.loaded}
        self.backends: dict[str, Backend] = {**made, **self.loaded}
        self.models = {
            m.id: ModelStatus(m.id, "ready" if m.id in self.loaded else "unloaded")
            for m in config.models
        }
        self.inflight = dict.fromkeys(self.backends, 0)
        self.places = {m.id: asyncio.Semaphore(m.max_running) for m in config.models}

    async def start(self) -> None:
        """Loads the models one after the other; a failure is kept in its status."""
        for model_id, backend in self.backends.items():
            if model_id in self.loaded:
                continue
            try:
                info = await backend.load(lambda progress: None)
                status = ModelStatus(model_id, "ready", info=info)
            except LoadFailed as error:
                status = ModelStatus(model_id, "failed", error=error.message)
            self.models[model_id] = status

    async def stop(self) -> None:
        for model_id, backend in self.backends.items():
            if model_id not in self.loaded:
                await backend.close()

    def status(self) -> ServerStatus:
        models = tuple(self.models.values())
        return ServerStatus(_state(models), models, created=self.created)

    async def changes(self) -> AsyncGenerator[ServerStatus, None]:
        yield self.status()

    @contextmanager
    def place(self, request: GenerationRequest) -> Iterator[None]:
        model = self.config.model(request.model)
        assert model is not None
        if self.inflight[request.model] + request.sequences > model.max_running + model.max_queued:
            raise QueueFull(f"The queue of {request.model} is full.", retry_after_s=1)
        self.inflight[request.model] += request.sequences
        try:
            yield
        finally:
            self.inflight[request.model] -= request.sequences

    async def admit(
        self, request: GenerationRequest, hold_s: float | None
    ) -> AsyncGenerator[Loading, None]:
        """Nothing loads after `start`, so a model is ready or it never will be."""
        status = self.models[request.model]
        if status.state == "failed":
            raise LoadFailed(status.error or "it failed to load", retry_after_s=60)
        nothing: tuple[Loading, ...] = ()
        for loading in nothing:
            yield loading

    async def load(self, model_id: str) -> Loading | None:
        return None

    async def unload(self, model_id: str) -> None:
        raise Conflict("This server keeps every model loaded.")

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[bytes, None]:
        model = self.config.model(request.model)
        assert model is not None
        async with (
            self.places[request.model],
            aclosing(execute(self.backends[request.model], request, model.max_running)) as messages,
        ):
            async for message in messages:
                yield message


def _state(models: tuple[ModelStatus, ...]) -> ServerState:
    """`degraded` once a load failed, `starting` until every model is up, else `ok`."""
    states = {model.state for model in models}
    if "failed" in states:
        return "degraded"
    return "ok" if states == {"ready"} else "starting"
