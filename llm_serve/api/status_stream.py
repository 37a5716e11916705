"""`GET /v1/events`: every change of state and every step of a load, as server-sent events."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from llm_serve.api import views
from llm_serve.api.gateway import Gateway
from llm_serve.api.responses import send_body, start_stream, until_disconnect
from llm_serve.config import Config
from llm_serve.status import ServerStatus
from llm_serve.wire import frame

_KEEP_ALIVE_S = 15.0


class EventStream(Response):
    """The whole state first, then what changes; a comment now and then while nothing does."""

    def __init__(self, config: Config, gateway: Gateway) -> None:
        self.config = config
        self.gateway = gateway
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        lock = asyncio.Lock()
        await start_stream(send, {})
        tasks = [
            asyncio.create_task(self._changes(send, lock)),
            asyncio.create_task(_keep_alive(send, lock)),
            asyncio.create_task(until_disconnect(receive)),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _changes(self, send: Send, lock: asyncio.Lock) -> None:
        before: ServerStatus | None = None
        async with aclosing(self.gateway.changes()) as changes:
            async for now in changes:
                event = views.event(self.config, before, now)
                before = now
                if event is not None:
                    async with lock:
                        await send_body(send, frame(event))
        await asyncio.Event().wait()  # nothing changes any more; the client may still listen


async def _keep_alive(send: Send, lock: asyncio.Lock) -> None:
    while True:
        await asyncio.sleep(_KEEP_ALIVE_S)
        async with lock:
            await send_body(send, b": still here\n\n")
