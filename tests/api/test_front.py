"""What stands between Ray's HTTP server and the app."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx
import pytest
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from deployments.ray_patches.proxy_middleware import middlewares
from llm_serve.errors import EngineDied
from tests.support.client import check, refused


def _get(app: ASGIApp) -> httpx.Response:
    """Through all middlewares, as Ray stacks them: the later ones further out."""
    wrapped = app
    for middleware in middlewares():
        wrapped = _wrap(middleware, wrapped)

    async def get() -> httpx.Response:
        transport = httpx.ASGITransport(app=wrapped)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get("/")

    return asyncio.run(get())


def _wrap(middleware: Middleware, app: ASGIApp) -> ASGIApp:
    make: Callable[..., ASGIApp] = middleware.cls
    return make(app, *middleware.args, **middleware.kwargs)


def test_an_app_that_ends_without_an_answer_is_a_json_502_with_an_id() -> None:
    async def dies(scope: Scope, receive: Receive, send: Send) -> None:
        return

    refused(check(_get(dies)), EngineDied)


@pytest.mark.parametrize("status", [200, 503])
def test_any_other_answer_passes(status: int) -> None:
    response = _get(PlainTextResponse("as it is", status))
    assert (response.status_code, response.text) == (status, "as it is")
