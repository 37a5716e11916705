"""The renderer of `/v1/responses`: OpenAI's response object, and its events by number.

Every event and the object are as the types of OpenAI's SDK have them, no member more and none less.
What failed midway is told by `response.failed`, which the SDKs and Codex CLI all know: the `error`
event is passed over by some of them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from llm_serve.errors import InvalidRequest, QueueFull, ServeError
from llm_serve.generation.request import GenerationRequest
from llm_serve.generation.response_items import Event, Output
from llm_serve.sampling import Delta
from llm_serve.wire import to_json

LAST_EVENTS = ("response.completed", "response.incomplete")
"""One of them ends a stream that did not fail; its response is whole."""


class ResponsesRenderer:
    """See `llm_serve.generation.renderer.Renderer`. `usage` is what was counted by the end."""

    def __init__(self, request: GenerationRequest, prompt_tokens: int, answers: int = 1) -> None:
        self.request = request
        self.prompt_tokens = prompt_tokens
        self.output_tokens = self.reasoning_tokens = self.cached_tokens = 0
        self.sequence = 0
        """The number of the next event."""
        self._cut = False
        """Whether the answer ended where it had to."""
        self._output = Output(request.id, request.echo.get("tools", ()))

    def begin(self) -> bytes:
        response = self._response("in_progress")
        return self._events(
            (f"response.{name}", {"response": response}) for name in ("created", "in_progress")
        )

    def chunk(self, index: int, delta: Delta) -> bytes:
        self._count(delta)
        return self._events(self._output.take(delta))

    def end(self) -> bytes:
        last = self._events(self._output.end("incomplete" if self._cut else "completed"))
        return last + self._events([self._last()])

    def failed(self, error: ServeError) -> bytes:
        self._output.stop()
        response = self._response("failed", error=_error(error))
        return self._events([("response.failed", {"response": response})])

    def add(self, index: int, delta: Delta) -> None:
        self._count(delta)
        for _ in self._output.take(delta):
            pass

    def body(self) -> bytes:
        for _ in self._output.end("incomplete" if self._cut else "completed"):
            pass
        _, members = self._last()
        return to_json(members["response"])

    def _last(self) -> Event:
        status = "incomplete" if self._cut else "completed"
        return f"response.{status}", {"response": self._response(status, usage=self._usage())}

    def _count(self, delta: Delta) -> None:
        self.output_tokens += delta.tokens
        if delta.reasoning and not delta.text and not delta.calls:
            self.reasoning_tokens += delta.tokens
        self.cached_tokens += delta.cached_tokens or 0
        self._cut = delta.finish_reason == "length"

    def _usage(self) -> dict[str, Any]:
        return {
            "input_tokens": self.prompt_tokens,
            "input_tokens_details": {
                "cached_tokens": self.cached_tokens,
                "cache_write_tokens": 0,
            },
            "output_tokens": self.output_tokens,
            "output_tokens_details": {"reasoning_tokens": self.reasoning_tokens},
            "total_tokens": self.prompt_tokens + self.output_tokens,
        }

    def _response(
        self,
        status: str,
        *,
        usage: dict[str, Any] | None = None,
        error: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        request = self.request
        return {
            "id": request.id,
            "object": "response",
            "created_at": request.created,
            "status": status,
            "background": False,
            "completed_at": int(time.time()) if status == "completed" else None,
            "error": error,
            "incomplete_details": {"reason": "max_output_tokens"}
            if status == "incomplete"
            else None,
            **request.echo,
            "model": request.answers_as,
            "output": self._output.view(),
            "usage": usage,
        }

    def _events(self, events: Iterable[Event]) -> bytes:
        frames = []
        for name, members in events:
            data = {"type": name, "sequence_number": self.sequence, **members}
            frames.append(b"event: " + name.encode() + b"\ndata: " + to_json(data) + b"\n\n")
            self.sequence += 1
        return b"".join(frames)


def failed_midway(request: GenerationRequest, error: ServeError, sent: int) -> bytes:
    """The last events of a stream that ended without its renderer's: `sent` events came before."""
    renderer = ResponsesRenderer(request, 0)
    begin = b"" if sent else renderer.begin()
    renderer.sequence = max(sent, renderer.sequence)
    return begin + renderer.failed(error)


def _error(error: ServeError) -> dict[str, Any]:
    """OpenAI has a closed set of codes here; `type` and `message` say more."""
    if isinstance(error, InvalidRequest):
        code = "invalid_prompt"
    else:
        code = "rate_limit_exceeded" if isinstance(error, QueueFull) else "server_error"
    return {"code": code, "message": error.message, "param": error.param, "type": error.code}
