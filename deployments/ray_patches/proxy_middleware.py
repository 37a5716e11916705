"""What stands between Ray Serve's HTTP server and our app: named in serve.env, called by Ray.

    RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH=deployments.ray_patches.proxy_middleware.middlewares

Ray applies these outside of its own handling of a request, the later ones further out.
"""

from __future__ import annotations

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llm_serve.api.middleware import RequestIds
from llm_serve.api.responses import error_response, path_of
from llm_serve.errors import EngineDied

_RAYS_OWN = frozenset(
    {
        b"x-request-timeout-seconds",
        b"x-request-disconnect-disabled",
        b"serve_multiplexed_model_id",
        b"serve-multiplexed-model-id",
    }
)


class HideRayHeaders:
    """Keeps from Ray the headers with which a client could override the server's policy.

    With them a client gets Ray's plain-text 408 in place of our 504, or goes on generating after it
    has left.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            kept = [pair for pair in scope["headers"] if pair[0] not in _RAYS_OWN]
            scope = {**scope, "headers": kept}
        await self.app(scope, receive, send)


class BrokenIngress:
    """Our 502 for an ingress that dies under Ray's own proxy.

    The proxy takes requests while HAProxy knows no ingress. When the replica dies before it began
    an answer, the proxy returns without one, and its HTTP server would make that a plain-text 500.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def watched_send(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        await self.app(scope, receive, watched_send)
        if scope["type"] == "http" and not begun:
            error = EngineDied("The connection to the ingress broke; send the request again.")
            await error_response(error, path=path_of(scope))(scope, receive, send)


def middlewares() -> list[Middleware]:
    """RequestIds is outermost: Ray adds a second x-request-id to the answer, and decodes any."""
    return [Middleware(BrokenIngress), Middleware(HideRayHeaders), Middleware(RequestIds)]
