"""JSON, server-sent events and errors as bytes: what ingress, replica and door write alike."""

from __future__ import annotations

import json
from typing import Any

from llm_serve.errors import ServeError

DONE = b"data: [DONE]\n\n"
REQUEST_ID = "[A-Za-z0-9._:-]{1,128}"
"""A client's own id is kept where it is of this form."""
_NAMED_EVENTS = ("/v1/responses", "/v1/messages")
_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def to_json(value: Any) -> bytes:
    """The value as compact UTF-8 JSON. Raises ValueError for NaN and infinities."""
    return _encoder.encode(value).encode()


def frame(value: Any) -> bytes:
    """One server-sent event, whose data is the value as JSON."""
    return b"data: " + to_json(value) + b"\n\n"


def error_body(error: ServeError) -> dict[str, Any]:
    """OpenAI's error object, with `loading` beside it for a model that is still on its way."""
    body: dict[str, Any] = {
        "error": {
            "message": error.message,
            "type": error.type,
            "param": error.param,
            "code": error.code,
        }
    }
    if error.loading is not None:
        body["loading"] = error.loading
    return body


def error_frame(error: ServeError, path: str = "") -> bytes:
    """The error of a stream that has begun. Clients of the Responses and Messages routes look at
    the event's name and type."""
    if path in _NAMED_EVENTS:
        return b"event: error\n" + frame({"type": "error", **error_body(error)})
    return frame(error_body(error))
