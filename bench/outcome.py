"""How a request ended, and whether what came back is this server's own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import httpx

from llm_serve.errors import ServeError

FOREIGN, REFUSED, CUT, TIMEOUT = "foreign", "refused", "cut", "timeout"
_RETRIED = (429, 503)


def _kinds(kind: type[ServeError]) -> Iterator[tuple[int, str, str]]:
    yield kind.status, kind.type, kind.code
    for child in kind.__subclasses__():
        yield from _kinds(child)


_KINDS = frozenset(_kinds(ServeError))


def foreign(status: int, headers: httpx.Headers, body: bytes) -> str | None:
    """Why this whole answer is not one of ours; None where it is."""
    ids = headers.get_list("x-request-id")
    if len(ids) != 1:
        return f"{status} with {len(ids)} request ids: {body[:80]!r}"
    kind = headers.get("content-type", "")
    if status == 200 and kind.startswith("text/event-stream"):
        return None
    if kind != "application/json":
        return f"{status} of type {kind!r}: {body[:80]!r}"
    try:
        value = json.loads(body)
    except ValueError:
        return f"{status} and no JSON: {body[:80]!r}"
    if status == 202:
        loads = isinstance(value, dict) and value.get("object") == "model.load"
        return None if loads and "retry-after" in headers else f"202 without model.load: {value}"
    if status >= 400:
        return _foreign_error(status, headers, value)
    return None if status == 200 else f"a status that is none of ours: {status}"


def _foreign_error(status: int, headers: Mapping[str, str], value: Any) -> str | None:
    error = value.get("error") if isinstance(value, dict) else None
    if not isinstance(error, dict) or set(error) != {"message", "type", "param", "code"}:
        return f"{status} without an error object: {value}"
    if (status, error["type"], error["code"]) not in _KINDS:
        return f"an error that is none of ours: {status} {error}"
    if (status in _RETRIED) != ("retry-after" in headers):
        return f"{status} and Retry-After: {headers.get('retry-after')}"
    return None


def stream_end(body: bytes) -> str:
    """How a stream ended: `200`, the code of its error frame, or `cut`."""
    end = CUT
    for line in body.split(b"\n"):
        if line == b"data: [DONE]":
            end = "200"
        elif line.startswith(b'data: {"error"'):
            try:
                end = str(json.loads(line[6:])["error"]["code"])
            except (ValueError, KeyError, TypeError):
                end = FOREIGN
    return end


def broken(error: httpx.TransportError) -> str:
    """How a request without an answer ended."""
    if isinstance(error, httpx.TimeoutException):
        return TIMEOUT
    if isinstance(error, httpx.ConnectError):
        return REFUSED
    return CUT
