"""The app in this process over LocalGateway and echo models, behind a synchronous client.

The event loop runs in a thread of its own, so that tests need not be coroutines and requests may
overlap. httpx's ASGITransport keeps an answer until it is whole: what needs real streaming is
tested in tests/serving.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx
from starlette.types import ASGIApp

from llm_serve.api.app import create_app
from llm_serve.backends.base import Backend
from llm_serve.config import Config, ModelConfig
from tests.support.client import Api
from tests.support.local_gateway import LocalGateway


class _Threaded(httpx.BaseTransport):
    def __init__(self, app: ASGIApp, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        self._loop = loop

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return asyncio.run_coroutine_threadsafe(self._handle(request), self._loop).result(60)

    async def _handle(self, request: httpx.Request) -> httpx.Response:
        body = request.stream
        if not isinstance(body, httpx.AsyncByteStream):
            assert isinstance(body, httpx.SyncByteStream)
            request = httpx.Request(
                request.method, request.url, headers=request.headers, stream=_Async(body)
            )
        response = await self._transport.handle_async_request(request)
        content = await response.aread()
        return httpx.Response(response.status_code, headers=response.headers, content=content)


class _Async(httpx.AsyncByteStream):
    def __init__(self, stream: httpx.SyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> Any:
        for part in self._stream:
            yield part


def echo(model_id: str = "echo/a", **fields: Any) -> dict[str, Any]:
    """One echo model's configuration; the engine's fields and the model's may be mixed."""
    own = set(ModelConfig.model_fields) - {"engine"}
    engine = {k: v for k, v in fields.items() if k not in own}
    rest = {k: v for k, v in fields.items() if k in own}
    return {"id": model_id, "backend": "echo", "engine": engine, **rest}


@contextmanager
def running_loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextmanager
def serving(
    *models: dict[str, Any],
    keys: tuple[str, ...] = (),
    bind: str | None = None,
    wrap: Callable[[ASGIApp], ASGIApp] = lambda app: app,
    start_s: float = 60,
    loaded: Mapping[str, Backend] | None = None,
    **server: Any,
) -> Iterator[Api]:
    """An Api over these models; `server` has fields of ServerConfig, `wrap` may change the app, and
    `loaded` has backends that are there already, by the ids of their models."""
    config = Config.model_validate({"models": list(models) or [echo()], "server": server})
    with running_loop() as loop:

        async def start() -> tuple[LocalGateway, ASGIApp]:
            gateway = LocalGateway(config, loaded)
            await gateway.start()
            return gateway, wrap(create_app(config, gateway, keys, bind))

        gateway, app = asyncio.run_coroutine_threadsafe(start(), loop).result(start_s)
        with httpx.Client(transport=_Threaded(app, loop), base_url="http://test") as client:
            api = Api(client)
            api.gateway, api.loop = gateway, loop
            yield api
        asyncio.run_coroutine_threadsafe(gateway.stop(), loop).result(60)
