"""What stands between Ray Serve's HTTP server and our app: named in serve.env, called by Ray.

    RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH=deployments.front.middlewares

Ray applies these outside of its own handling of a request, the later ones further out.
"""

from __future__ import annotations

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from llm_serve.api.edge import RequestIds

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


def middlewares() -> list[Middleware]:
    """RequestIds is outermost: Ray adds a second x-request-id to the answer, and decodes any."""
    return [Middleware(HideRayHeaders), Middleware(RequestIds)]
