"""Every error that a client can see. The hierarchy is the HTTP contract.

    ServeError
    ├── InvalidRequest            400  invalid_request
    │   ├── UnknownModel          400  model_not_found
    │   ├── PromptTooLong         400  context_length_exceeded
    │   ├── UnsupportedParameter  400  unsupported_parameter
    │   └── NoPreviousResponse    400  previous_response_not_found
    ├── MissingKey                401  missing_api_key
    ├── WrongKey                  403  invalid_api_key
    ├── ForeignOrigin             403  origin_not_allowed
    ├── ForeignHost               403  host_not_allowed
    ├── NoRoute                   404  not_found
    ├── NoModel                   404  model_not_found
    ├── NoResponse                404  response_not_found
    ├── WrongMethod               405  method_not_allowed
    ├── RequestTimeout            408  request_timeout
    ├── Conflict                  409  not_accepting_requests
    ├── BodyTooLarge              413  request_too_large
    ├── QueueFull                 429  queue_full             Retry-After
    ├── HeadersTooLarge           431  headers_too_large
    ├── InternalError             500  internal_error
    ├── EngineDied                502  engine_died
    ├── NotReady                  503  model_not_ready        Retry-After
    │   └── LoadFailed            503  model_load_failed      Retry-After
    └── InferenceTimeout          504  inference_timeout

A class carries `status`, `type` and `code`; an instance carries the sentence for the person, the
name of the offending field, and how many seconds to wait. Instances travel between processes by
pickle. They become JSON in one place,
`llm_serve.wire.error_body`.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any, ClassVar

MAX_RETRY_AFTER_S = 60  # openai-python gives up at once when it is told to wait above 120 s


_START = r"(?:~\w*|\.{1,2}|file:(?://)?|[A-Za-z]:)?"
_STEP = r"[/\\]+[^\s'\"`,;:()<>/\\]+"
_PATH = re.compile(
    r"(?P<address>\b(?!file:)[a-z][a-z0-9+.-]*://\S+)"
    rf"|(?P<quote>['\"`]){_START}[/\\](?:(?!(?P=quote)).)*(?P=quote)"  # it may have spaces
    rf"|(?<![\w/.~<>-]){_START}(?:{_STEP})+/*"
)


def without_paths(text: str) -> str:
    """The text with `(path)` in place of each path of a file or folder, which are no client's
    business. Addresses with a host stay, and names like org/model."""
    return _PATH.sub(lambda found: found["address"] or "(path)", text)


class ServeError(Exception):
    """An error with an HTTP status. `message` must be safe to show: no path, prompt or secret."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: ClassVar[str] = "internal_error"

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        retry_after_s: int | None = None,
        loading: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.loading = loading
        """The `model.load` object, for a model that is still on its way."""
        if retry_after_s is not None:
            retry_after_s = max(1, min(MAX_RETRY_AFTER_S, retry_after_s))
        self.retry_after_s = retry_after_s

    def __reduce__(self) -> tuple[Any, ...]:
        named: dict[str, Any] = {
            "param": self.param,
            "retry_after_s": self.retry_after_s,
            "loading": self.loading,
        }
        return partial(type(self), **named), (self.message,)


class InvalidRequest(ServeError):
    """The request breaks the schema or a range; `param` names the field."""

    status, type, code = 400, "invalid_request_error", "invalid_request"


class UnknownModel(InvalidRequest):
    """The model is not in the allowlist."""

    code = "model_not_found"


class PromptTooLong(InvalidRequest):
    """The prompt leaves no room for a single new token in the context."""

    code = "context_length_exceeded"


class UnsupportedParameter(InvalidRequest):
    """The backend of this model cannot do what the field asks for."""

    code = "unsupported_parameter"


class NoPreviousResponse(InvalidRequest):
    """The response that a conversation is to go on from is not stored, or not any more."""

    code = "previous_response_not_found"


class MissingKey(ServeError):
    """No API key was sent and the server wants one."""

    status, type, code = 401, "authentication_error", "missing_api_key"


class WrongKey(ServeError):
    """The API key is not one of the configured ones."""

    status, type, code = 403, "permission_error", "invalid_api_key"


class ForeignOrigin(ServeError):
    """A web page of another origin asks the browser to change something here."""

    status, type, code = 403, "permission_error", "origin_not_allowed"


class ForeignHost(ServeError):
    """A name that is not this server's: a web page may have bound it to this machine's address."""

    status, type, code = 403, "permission_error", "host_not_allowed"


class NoRoute(ServeError):
    """No such path."""

    status, type, code = 404, "invalid_request_error", "not_found"


class NoModel(ServeError):
    """The path names a model that is not in the allowlist; a body that does is an UnknownModel."""

    status, type, code = 404, "invalid_request_error", "model_not_found"


class NoResponse(ServeError):
    """The path names a response that is not stored, or not any more."""

    status, type, code = 404, "invalid_request_error", "response_not_found"


class WrongMethod(ServeError):
    """The path exists, the method does not."""

    status, type, code = 405, "invalid_request_error", "method_not_allowed"


class RequestTimeout(ServeError):
    """The client took longer than `server.body_timeout_s` to send its request."""

    status, type, code = 408, "timeout_error", "request_timeout"


class Conflict(ServeError):
    """The server is shutting down, or a switch cannot be queued."""

    status, type, code = 409, "conflict_error", "not_accepting_requests"


class BodyTooLarge(ServeError):
    """The body is above `server.max_body_mb`."""

    status, type, code = 413, "invalid_request_error", "request_too_large"


class QueueFull(ServeError):
    """The model's queue is full; `retry_after_s` comes from the measured drain rate."""

    status, type, code = 429, "rate_limit_error", "queue_full"


class HeadersTooLarge(ServeError):
    """The headers of the request are larger than 16 KiB."""

    status, type, code = 431, "invalid_request_error", "headers_too_large"


class InternalError(ServeError):
    """A defect of ours. The message says nothing about the inside."""


class EngineDied(ServeError):
    """The engine or its replica died while it worked on the request."""

    status, code = 502, "engine_died"


class NotReady(ServeError):
    """The model is still loading."""

    status, code = 503, "model_not_ready"


class LoadFailed(NotReady):
    """The model could not be loaded; the message has the reason.

    The reasons are those of engines, downloads and files, and what they say may name a path:
    `message`, which clients see, has none. `detail` is the whole, for logs and for the person at
    the machine; it stays in the process that raised the error.
    """

    code = "model_load_failed"

    def __init__(self, message: str, *, detail: str | None = None, **named: Any) -> None:
        super().__init__(without_paths(message), **named)
        self.detail = detail or message


class InferenceTimeout(ServeError):
    """The answer was not complete within `server.inference_timeout_s`."""

    status, type, code = 504, "timeout_error", "inference_timeout"
