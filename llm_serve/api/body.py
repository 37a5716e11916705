"""Reading a request body within its limit."""

from __future__ import annotations

from starlette.requests import ClientDisconnect, Request

from llm_serve.errors import BodyTooLarge, InvalidRequest


async def read_body(request: Request, max_mb: float) -> bytes:
    """The body. Raises BodyTooLarge as soon as that is known, InvalidRequest when it is not JSON.

    A browser may send `text/plain` to a loopback server from any page without asking; it may not
    send `application/json`. So the media type is required.
    """
    limit = int(max_mb * 1024 * 1024)
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and (len(declared) > 18 or int(declared) > limit):
        raise _too_large(max_mb)
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise InvalidRequest("Send the body with the header Content-Type: application/json.")
    chunks, size = [], 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > limit:
                raise _too_large(max_mb)
            chunks.append(chunk)
    except ClientDisconnect:
        raise InvalidRequest("The connection closed before the body was complete.") from None
    return b"".join(chunks)


def _too_large(max_mb: float) -> BodyTooLarge:
    return BodyTooLarge(
        f"The body is larger than {max_mb:g} MiB; send less, or raise server.max_body_mb."
    )
