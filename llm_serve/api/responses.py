"""Responses: JSON, errors, and the one that generates while it watches client and clock."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack, aclosing, nullcontext
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from llm_serve.api.gateway import ComeBack, Gateway, Readmit
from llm_serve.api.hold_policy import Hold
from llm_serve.api.last_event import LastEvent
from llm_serve.errors import InferenceTimeout, InternalError, ServeError
from llm_serve.generation.request import GenerationRequest
from llm_serve.generation.responses import failed_midway
from llm_serve.status import Loading
from llm_serve.wire import error_body, error_frame, to_json

log = logging.getLogger("llm_serve.api")
Keep = Callable[[bytes, bool], Awaitable[None]]
"""Stores an answer before its end is sent: the JSON of the body, or, with True, of the last event
of a stream. It raises nothing."""


def json_response(
    value: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    return Response(to_json(value), status, headers, media_type="application/json")


def error_response(
    error: ServeError, headers: Mapping[str, str] | None = None, path: str = ""
) -> Response:
    """The error as JSON, with Retry-After where the error knows it; `path` is the request's."""
    merged = dict(headers or {})
    if error.retry_after_s is not None:
        merged["retry-after"] = str(error.retry_after_s)
    return json_response(error_body(error, path), error.status, merged)


def loading_response(loading: Loading, headers: Mapping[str, str] | None = None) -> Response:
    """The guide's 202."""
    merged = {**(headers or {}), "retry-after": str(loading.retry_after_s)}
    return json_response(loading.body(), 202, merged)


def path_of(scope: Scope) -> str:
    """The route that is asked; under a route prefix, ASGI's path begins with that."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def internal_error(scope: Scope) -> InternalError:
    """Logs the exception that is being handled; the error names the request and nothing else."""
    request_id = Headers(scope=scope).get("x-request-id")
    log.exception("request %s failed", request_id)
    return InternalError(f"An internal error; the server's log has it under {request_id}.")


class GenerationResponse(Response):
    """Runs a request; a client that leaves cancels it, and so does the inference timeout.

    A stream whose model is loading opens as soon as the wait is accepted, and says where the load
    stands in comments, so that no client is left in silence.
    """

    def __init__(
        self,
        gateway: Gateway,
        request: GenerationRequest,
        hold: Hold,
        timeout_s: float,
        keep: Keep | None = None,
    ) -> None:
        self.gateway = gateway
        self.request = request
        self.hold = hold
        self.timeout_s = timeout_s
        self.keep = keep
        self.background = None
        self._begun = False
        self._events = 0
        """Events of the answer that were sent."""
        self._more = {} if hold.applied is None else {"preference-applied": hold.applied}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        pump = asyncio.create_task(self._pump(scope, receive, send))
        watch = asyncio.create_task(until_disconnect(receive))
        try:
            await asyncio.wait({pump, watch}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            watch.cancel()
            if not pump.done():
                pump.cancel()
            await asyncio.gather(pump, watch, return_exceptions=True)
        if not pump.cancelled():
            pump.result()

    async def _pump(self, scope: Scope, receive: Receive, send: Send) -> None:
        whole: Response | None = None
        try:
            whole = await self._run(send)
        except ComeBack as sent_away:
            whole = loading_response(sent_away.loading, self._more)
        except ServeError as error:
            whole = await self._fail(error, send)
        except Exception:
            whole = await self._fail(internal_error(scope), send)
        if self._begun:
            await send_body(send, b"", more=False)
        elif whole is not None:
            await whole(scope, receive, send)

    async def _run(self, send: Send) -> Response | None:
        """The answer of a request that does not stream; None once a stream was sent."""
        loop = asyncio.get_running_loop()
        hold_s = self.hold.seconds
        deadline = loop.time() + (hold_s or 0)
        with ExitStack() as kept:
            if hold_s is not None:
                kept.enter_context(self.gateway.place(self.request))
            while True:
                left = None if hold_s is None else max(0.0, deadline - loop.time())
                async with aclosing(self.gateway.admit(self.request, left)) as waits:
                    async for loading in waits:
                        if self.request.stream:
                            await self._send(send, loading.comment())
                try:
                    with nullcontext() if hold_s is not None else self.gateway.place(self.request):
                        return await self._generate(send)
                except Readmit:
                    continue

    async def _generate(self, send: Send) -> Response | None:
        clock = asyncio.timeout(self.timeout_s)
        last = None if self.keep is None else LastEvent()
        body = b""
        try:
            async with clock, aclosing(self.gateway.generate(self.request)) as messages:
                if not self.request.stream:
                    body = b"".join([message async for message in messages])
                else:
                    async for message in messages:
                        sent = message if last is None else last.feed(message)
                        if sent:
                            await self._send(send, sent)
        except TimeoutError:
            if clock.expired():
                raise self._timed_out() from None
            raise
        if not self.request.stream:
            if self.keep is not None:
                await self.keep(body, False)
            return Response(body, 200, self._more, media_type="application/json")
        if last is not None and self.keep is not None and (event := last.data()) is not None:
            await self.keep(event, True)
            await self._send(send, last.rest())
        return None

    async def _send(self, send: Send, message: bytes) -> None:
        if not self._begun:
            self._begun = True
            await start_stream(send, self._more)
        await send_body(send, message)
        if self.request.dialect == "responses" and not message.startswith(b": "):
            self._events += message.count(b"\n\n")

    async def _fail(self, error: ServeError, send: Send) -> Response | None:
        if not self._begun:
            return error_response(error, self._more, self.request.path)
        if self.request.dialect == "responses":
            await send_body(send, failed_midway(self.request, error, self._events))
        else:
            await send_body(send, error_frame(error, self.request.path))
        return None

    def _timed_out(self) -> InferenceTimeout:
        return InferenceTimeout(
            f"The answer was not complete within {self.timeout_s:g} s; ask for fewer tokens, "
            "or raise server.inference_timeout_s."
        )


async def start_stream(send: Send, more: Mapping[str, str]) -> None:
    headers = [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"cache-control", b"no-cache"),
        (b"x-accel-buffering", b"no"),
        *((name.encode(), value.encode()) for name, value in more.items()),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def send_body(send: Send, body: bytes, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def until_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
