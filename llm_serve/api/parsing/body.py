"""Reading a request body within its limits: of bytes, of structure, of time."""

from __future__ import annotations

import asyncio

from starlette.requests import ClientDisconnect, Request

from llm_serve.api.parsing.outline import PIECE, Outline
from llm_serve.config import ServerConfig
from llm_serve.errors import BodyTooLarge, InvalidRequest, RequestTimeout


async def read_body(request: Request, server: ServerConfig) -> bytes:
    """The body. Raises BodyTooLarge and InvalidRequest (see `outline`) as soon as that is known,
    RequestTimeout when the body is not whole in time.

    A browser may send `text/plain` to a loopback server from any page without asking; it may not
    send `application/json`. So the media type is required.
    """
    limit = int(server.max_body_mb * 1024 * 1024)
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and (len(declared) > 18 or int(declared) > limit):
        raise _too_large(server.max_body_mb)
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise InvalidRequest("Send the body with the header Content-Type: application/json.")
    try:
        async with asyncio.timeout(server.body_timeout_s) as clock:
            return await _read(request, limit, server.max_body_mb)
    except ClientDisconnect:
        raise InvalidRequest("The connection closed before the body was complete.") from None
    except TimeoutError:
        if not clock.expired():
            raise
        raise RequestTimeout(
            f"The body was not complete within {server.body_timeout_s:g} s; send it faster, or "
            "raise server.body_timeout_s."
        ) from None


async def _read(request: Request, limit: int, max_mb: float) -> bytes:
    chunks, size = [], 0
    outline = Outline()
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise _too_large(max_mb)
        for start in range(0, len(chunk), PIECE):
            if start:
                await asyncio.sleep(0)  # others' turn
            outline.feed(chunk[start : start + PIECE])
        chunks.append(chunk)
    return b"".join(chunks)


def _too_large(max_mb: float) -> BodyTooLarge:
    return BodyTooLarge(
        f"The body is larger than {max_mb:g} MiB; send less, or raise server.max_body_mb."
    )
