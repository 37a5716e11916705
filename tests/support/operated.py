"""A small server in this process whose models load when they are asked to: no Ray, real HTTP."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import uvicorn

from llm_serve.api.app import create_app
from llm_serve.config import Config
from llm_serve.errors import Conflict, LoadFailed
from llm_serve.progress import LoadProgress
from llm_serve.status import Loading, ServerStatus
from tests.support.local_gateway import LocalGateway
from tests.support.waiting import until


class Switching(LocalGateway):
    """Loads in steps that the test takes: `set` is how a model stands from now on."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Condition()

    def set(self, model_id: str, **fields: Any) -> None:
        """From any thread."""
        asyncio.run_coroutine_threadsafe(self._set(model_id, fields), self._loop).result(10)

    async def changes(self) -> AsyncGenerator[ServerStatus, None]:
        while True:
            yield self.status()
            async with self._news:
                await self._news.wait()

    async def load(self, model_id: str) -> Loading | None:
        model = self.models[model_id]
        if model.state == "failed":
            raise LoadFailed(f"{model_id} could not be loaded: {model.error}", retry_after_s=60)
        return None if model.loaded else Loading(model)

    async def unload(self, model_id: str) -> None:
        model = self.models[model_id]
        if model.pinned:
            raise Conflict(f"{model_id}: the model is pinned; unpin it first.")
        if model.loaded:
            await self._set(model_id, {"state": "draining"})

    async def _set(self, model_id: str, fields: dict[str, Any]) -> None:
        if fields.get("state") == "ready":
            fields["info"] = await self.backends[model_id].load(_nowhere)
        self.models[model_id] = replace(self.models[model_id], **fields)
        async with self._news:
            self._news.notify_all()


@dataclass
class Running:
    url: str
    gateway: Switching


@contextmanager
def running(*models: dict[str, Any], keys: tuple[str, ...] = ()) -> Iterator[Running]:
    """The server on a port of its own, with nothing loaded."""
    config = Config.model_validate({"models": list(models)})
    started: list[tuple[uvicorn.Server, Switching]] = []
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))

        async def serve() -> None:
            gateway = Switching(config)
            app = create_app(config, gateway, keys)
            server = uvicorn.Server(
                uvicorn.Config(app, lifespan="off", ws="none", log_level="error")
            )
            started.append((server, gateway))
            await server.serve(sockets=[listener])

        thread = threading.Thread(target=lambda: asyncio.run(serve()))
        thread.start()
        until(lambda: started and started[0][0].started, "the server is up")
        server, gateway = started[0]
        try:
            yield Running(f"http://127.0.0.1:{listener.getsockname()[1]}", gateway)
        finally:
            server.should_exit = server.force_exit = True  # streams of events have no end
            thread.join(10)


def _nowhere(progress: LoadProgress) -> None:
    pass
