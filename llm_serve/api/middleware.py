"""What every answer has, whatever the route: a request id, a checked host and key, a JSON 500.

Pure ASGI middleware, since Starlette's class-based one would buffer cancellation.
"""

from __future__ import annotations

import hmac
import re
import uuid
from functools import lru_cache
from ipaddress import ip_address

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llm_serve.api.responses import error_response, internal_error, path_of
from llm_serve.errors import ForeignHost, ForeignOrigin, MissingKey, ServeError, WrongKey
from llm_serve.wire import REQUEST_ID

_OPEN = ("/healthz", "/openapi.json")
"""Needs no key. All else does, so that a new route is closed until it is named here."""
BIND_HEADER = "x-llm-serve-bind"
"""`loopback` or `open`: what the door listens on, as it tells the ingress, which may be on another
machine. It only adds to what the ingress knows: a page could send `open`."""


class RequestIds:
    """Gives every request a well-formed x-request-id, its own or a new one, and every answer it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = Headers(scope=scope).get("x-request-id", "")
        if not re.fullmatch(REQUEST_ID, request_id):
            request_id = f"req_{uuid.uuid4().hex}"
        scope = {**scope, "headers": list(scope["headers"])}
        MutableHeaders(scope=scope)["x-request-id"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        await self.app(scope, receive, send_with_id)


class AccessControl:
    """Keeps strangers out and tracebacks in. Needs RequestIds around it.

    `bind` is the address on which the server listens, None where that is not known. `hosts` are the
    names under which it may be called besides those of loopback.
    """

    def __init__(
        self,
        app: ASGIApp,
        keys: tuple[str, ...],
        origins: tuple[str, ...] = (),
        bind: str | None = None,
        hosts: tuple[str, ...] = (),
    ) -> None:
        self.app = app
        self.keys = tuple(key.encode() for key in keys)
        self.origins = origins
        self.private = bind is not None and names_this_machine(bind)
        self.hosts = frozenset(name.lower() for name in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        path = path_of(scope)
        started = False

        async def watched_send(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            self._check_host(headers)
            if scope["method"] in ("POST", "DELETE"):
                self._check_origin(headers)
            self._check_key(path, headers)
            await self.app(scope, receive, watched_send)
        except ServeError as error:
            await error_response(error, path=path)(scope, receive, send)
        except Exception:
            if started:
                raise
            await error_response(internal_error(scope), path=path)(scope, receive, send)

    def _check_host(self, headers: Headers) -> None:
        """Raises ForeignHost. A web page may bind its own name to 127.0.0.1, and is then of this
        server's origin: all that tells it apart is the name in Host. Where the server listens to
        other machines, or asks for a key, that name is no way in."""
        private = self.private or headers.get(BIND_HEADER) == "loopback"
        if self.keys or not private or "*" in self.hosts:
            return
        for host in headers.getlist("host"):
            name = _name(host)
            if name and name not in self.hosts and not names_this_machine(name):
                raise ForeignHost(
                    f"This server is not called {name[:100]!r}. Call it localhost, or name it in "
                    "server.allowed_hosts."
                )

    def _check_origin(self, headers: Headers) -> None:
        """Raises ForeignOrigin. A browser lets any page send a POST without a body to loopback, and
        says in Origin which page it was; other clients send no Origin."""
        origin = headers.get("origin")
        if origin is None or "*" in self.origins or origin in self.origins:
            return
        if origin.partition("://")[2] != headers.get("host"):
            raise ForeignOrigin("Web pages of this origin may not call; see server.cors_origins.")

    def _check_key(self, path: str, headers: Headers) -> None:
        """Raises MissingKey or WrongKey. Every key is compared, in constant time."""
        if not self.keys or path in _OPEN:
            return
        sent = sent_key(headers)
        if sent is None:
            raise MissingKey(
                "Send an API key as the header Authorization: Bearer KEY, or as x-api-key: KEY."
            )
        if not any([hmac.compare_digest(sent, known) for known in self.keys]):  # noqa: C419
            raise WrongKey("This API key is not accepted here.")


def sent_key(headers: Headers) -> bytes | None:
    """The API key that a request has, None where it has none."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if not key:  # Anthropic's clients
        scheme, key = "bearer", headers.get("x-api-key", "")
    if scheme.lower() != "bearer" or not key.strip():
        return None
    return key.strip().encode("latin-1")  # the bytes that came, which ASGI reads as Latin-1


def _name(host: str) -> str:
    """The name in a Host header, without its port."""
    name, colon, port = host.strip().rpartition(":")
    return (name if colon and (port.isdecimal() or not port) else host.strip()).lower()


@lru_cache(maxsize=256)
def names_this_machine(name: str) -> bool:
    """Whether a host name or address is this machine's alone; IPv6 with or without brackets."""
    name = name.removeprefix("[").removesuffix("]").removesuffix(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False
