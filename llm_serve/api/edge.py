"""What every answer has, whatever the route: a request id, a checked key, a JSON 500."""

from __future__ import annotations

import hmac
import logging
import re
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llm_serve.api.answer import error_response
from llm_serve.errors import InternalError, MissingKey, ServeError, WrongKey

log = logging.getLogger("llm_serve.api")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class Edge:
    """Pure ASGI middleware, since Starlette's class-based one would buffer cancellation."""

    def __init__(self, app: ASGIApp, keys: tuple[str, ...]) -> None:
        self.app = app
        self.keys = tuple(key.encode() for key in keys)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request_id = headers.get("x-request-id", "")
        if not _REQUEST_ID.fullmatch(request_id):
            request_id = f"req_{uuid.uuid4().hex}"
        started = False

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        try:
            self._check_key(scope["path"], headers)
            await self.app(scope, receive, send_with_id)
        except ServeError as error:
            await error_response(error)(scope, receive, send_with_id)
        except Exception:
            log.exception("request %s failed", request_id)
            if started:
                raise
            message = f"An internal error; the server's log has it under {request_id}."
            await error_response(InternalError(message))(scope, receive, send_with_id)

    def _check_key(self, path: str, headers: Headers) -> None:
        """Raises MissingKey or WrongKey. Every key is compared, in constant time."""
        if not self.keys or not path.startswith("/v1/"):
            return
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise MissingKey("Send an API key as the header Authorization: Bearer KEY.")
        sent = key.strip().encode()
        if not any([hmac.compare_digest(sent, known) for known in self.keys]):  # noqa: C419
            raise WrongKey("This API key is not accepted here.")
