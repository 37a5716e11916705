"""JSON, server-sent events and errors as bytes: what ingress, replica and door write alike."""

from __future__ import annotations

import json
from typing import Any

from llm_serve.errors import ServeError

DONE = b"data: [DONE]\n\n"
REQUEST_ID = "[A-Za-z0-9._:-]{1,128}"
"""A client's own id is kept where it is of this form."""
_NAMED_EVENTS = ("/v1/responses", "/v1/messages")
_MESSAGES = ("/v1/messages", "/v1/messages/count_tokens")
_ANTHROPICS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "overloaded_error",
    429: "rate_limit_error",
    500: "api_error",
    502: "api_error",
    503: "overloaded_error",
    504: "timeout_error",
}
"""Anthropic's types of errors; the others are invalid_request_error."""
_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def to_json(value: Any) -> bytes:
    """The value as compact UTF-8 JSON. Raises ValueError for NaN and infinities."""
    return _encoder.encode(value).encode()


def frame(value: Any) -> bytes:
    """One server-sent event, whose data is the value as JSON."""
    return b"data: " + to_json(value) + b"\n\n"


def event(name: str, value: dict[str, Any]) -> bytes:
    """One server-sent event with a name, which is the `type` of its data too."""
    return b"event: " + name.encode() + b"\n" + frame({"type": name, **value})


def error_body(error: ServeError, path: str = "") -> dict[str, Any]:
    """OpenAI's error object, with `loading` beside it for a model that is still on its way.

    `path` is that of the request: clients of the Messages routes look for Anthropic's types.
    """
    messages = path in _MESSAGES
    kind = _ANTHROPICS.get(error.status, "invalid_request_error") if messages else error.type
    body: dict[str, Any] = {"type": "error"} if messages else {}
    body["error"] = {
        "message": error.message,
        "type": kind,
        "param": error.param,
        "code": error.code,
    }
    if error.loading is not None:
        body["loading"] = error.loading
    return body


def error_frame(error: ServeError, path: str = "") -> bytes:
    """The error of a stream that has begun. Clients of the Responses and Messages routes look at
    the event's name and type."""
    if path in _NAMED_EVENTS:
        return event("error", error_body(error, path))
    return frame(error_body(error))
