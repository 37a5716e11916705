"""Answers: JSON, errors, and the one that runs a job while it watches client and clock."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from llm_serve.api.gateway import Gateway
from llm_serve.api.job import Job
from llm_serve.api.render import error_body, frame, to_json
from llm_serve.errors import InferenceTimeout, InternalError, ServeError

log = logging.getLogger("llm_serve.api")


def json_response(
    value: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    return Response(to_json(value), status, headers, media_type="application/json")


def error_response(error: ServeError, headers: Mapping[str, str] | None = None) -> Response:
    """The error as JSON, with Retry-After where the error knows it."""
    merged = dict(headers or {})
    if error.retry_after_s is not None:
        merged["retry-after"] = str(error.retry_after_s)
    return json_response(error_body(error), error.status, merged)


def internal_error(scope: Scope) -> InternalError:
    """Logs the exception that is being handled; the error names the request and nothing else."""
    request_id = Headers(scope=scope).get("x-request-id")
    log.exception("request %s failed", request_id)
    return InternalError(f"An internal error; the server's log has it under {request_id}.")


class JobAnswer(Response):
    """Runs a job; a client that leaves cancels it, and so does the inference timeout."""

    def __init__(self, gateway: Gateway, job: Job, timeout_s: float) -> None:
        self.gateway = gateway
        self.job = job
        self.timeout_s = timeout_s
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        pump = asyncio.create_task(self._pump(scope, receive, send))
        watch = asyncio.create_task(_until_disconnect(receive))
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
        begun = False
        clock = asyncio.timeout(self.timeout_s)
        try:
            async with (
                clock,
                aclosing(self.gateway.generate(self.job)) as messages,
            ):
                if not self.job.stream:
                    body = b"".join([message async for message in messages])
                    await Response(body, media_type="application/json")(scope, receive, send)
                    return
                async for message in messages:
                    if not begun:
                        begun = True
                        await _start_stream(send)
                    await _send_body(send, message)
        except ServeError as error:
            await self._fail(error, begun, scope, receive, send)
        except Exception as error:
            ours = isinstance(error, TimeoutError) and clock.expired()
            failure = self._timed_out() if ours else internal_error(scope)
            await self._fail(failure, begun, scope, receive, send)
        if begun:
            await _send_body(send, b"", more=False)

    async def _fail(
        self, error: ServeError, begun: bool, scope: Scope, receive: Receive, send: Send
    ) -> None:
        if begun:
            await _send_body(send, frame(error_body(error)))
        else:
            await error_response(error)(scope, receive, send)

    def _timed_out(self) -> InferenceTimeout:
        return InferenceTimeout(
            f"The answer was not complete within {self.timeout_s:g} s; ask for fewer tokens, "
            "or raise server.inference_timeout_s."
        )


async def _start_stream(send: Send) -> None:
    headers = [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"cache-control", b"no-cache"),
        (b"x-accel-buffering", b"no"),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def _send_body(send: Send, body: bytes, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def _until_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
