"""vLLM's own API server, called in this process: every route and field that it has, under our
queue, our cancellation, our errors and our wire.

Plain chat and text completions do not come this way: `llm_serve.generation.execution` renders those
from the engine's tokens with far less work a token.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any

from llm_serve.backends.vllm.messages import MessageEvents, fitted, tidy_body
from llm_serve.errors import (
    InternalError,
    InvalidRequest,
    PromptTooLong,
    ServeError,
    UnsupportedParameter,
    without_paths,
)
from llm_serve.wire import frame, to_json

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message

_REQUIRED_NULLS = {"logprobs", "refusal", "finish_reason", "content"}
"""Members that OpenAI's schemas require even where they are null."""
MESSAGES = "/v1/messages"
_OPENAI_OBJECTS = ("chat.completion", "text_completion")
_VALIDATION = re.compile(r"^\d+ validation errors?:.*?'msg': (['\"])(?P<said>.*?)\1,", re.DOTALL)
"""vLLM lists pydantic's errors as dictionaries, with what was sent."""


class InnerServer:
    """Runs requests on an ASGI app, without a socket."""

    def __init__(self, app: ASGIApp, longest: int) -> None:
        """`longest`: the tokens that the model's context holds."""
        self._app = app
        self._longest = longest

    async def post(self, path: str, body: bytes) -> AsyncGenerator[bytes, None]:
        """The answer's body, or its server-sent events one by one. Raises ServeError.

        Closing the iterator is a client that disconnects.
        """
        if path == MESSAGES:
            body = fitted(body, self._longest)
        async with aclosing(self._exchange(path, body)) as messages:
            start = await anext(messages)
            status = int(start["status"])
            headers = {name.lower(): value for name, value in start.get("headers", ())}
            streamed = headers.get(b"content-type", b"").startswith(b"text/event-stream")
            if status != 200 or not streamed:
                whole = b"".join([m.get("body", b"") async for m in messages])
                if status == 404 and b'"error"' not in whole:  # no such route
                    raise UnsupportedParameter(
                        f"The model does not do {path}: its engine was not loaded for that task.",
                        param="model",
                    )
                if status != 200:
                    raise _refusal(status, whole)
                yield _tidy_body(whole, path)
                return
            buffer, of_messages = b"", MessageEvents()
            async for message in messages:
                buffer += message.get("body", b"")
                *events, buffer = buffer.split(b"\n\n")
                tidied, failed = _tidy_events(events, of_messages if path == MESSAGES else None)
                if tidied:
                    yield tidied
                if failed is not None:
                    raise failed

    async def _exchange(self, path: str, body: bytes) -> AsyncGenerator[Message, None]:
        ready: asyncio.Queue[Message | None] = asyncio.Queue()
        gone = asyncio.Event()
        asked = False

        async def receive() -> Message:
            nonlocal asked
            if not asked:
                asked = True
                return {"type": "http.request", "body": body, "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            ready.put_nowait(message)

        async def run() -> None:
            try:
                await self._app(_scope(path, body), receive, send)
            finally:
                ready.put_nowait(None)

        task = asyncio.create_task(run())
        try:
            while (message := await ready.get()) is not None:
                yield message
            await task  # raises what the app raised
        finally:
            gone.set()
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task


def _scope(path: str, body: bytes) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ],
        "client": None,
        "server": None,
        "state": {},
    }


def _tidy_events(
    events: list[bytes], of_messages: MessageEvents | None
) -> tuple[bytes, ServeError | None]:
    """The events as they should be, up to an error: vLLM goes on to [DONE] after one."""
    tidied: list[bytes] = []
    for event in events:
        if of_messages is not None and event.startswith(b"event: "):
            value = json.loads(event.partition(b"\ndata: ")[2])
            if value["type"] == "error":
                return b"".join(tidied), _error(500, value["error"])
            tidied.append(of_messages.tidy(value))
            continue
        if not event.startswith(b"data: {"):  # named events, comments and [DONE]
            tidied.append(event + b"\n\n")
            continue
        value = json.loads(event[len(b"data: ") :])
        if "error" in value:
            return b"".join(tidied), _error(int(value["error"].get("code") or 500), value["error"])
        tidied.append(frame(_tidy(value)))
    return b"".join(tidied), None


def _tidy_body(body: bytes, path: str) -> bytes:
    value = json.loads(body)
    if path.startswith(MESSAGES):
        return to_json(tidy_body(value))
    if isinstance(value, dict) and value.get("object") in _OPENAI_OBJECTS:
        value = _tidy(value)
    return to_json(value)


def _tidy(value: dict[str, Any]) -> dict[str, Any]:
    """A completion, or a chunk of one, less the nulls that break OpenAI's schemas."""
    chunk = value.get("object") == "chat.completion.chunk"
    choices = []
    for choice in value.get("choices", ()):
        kept = {k: v for k, v in choice.items() if v is not None or k in _REQUIRED_NULLS}
        for part in ("message", "delta"):
            if part in kept:
                needed = () if part == "delta" else ("content", "refusal")
                kept[part] = _tidy_turn(_without_nulls(kept[part], *needed), whole=bool(needed))
        kept.setdefault("logprobs", None)
        kept.setdefault("finish_reason", None)
        if kept["logprobs"] is not None and ("message" in kept or chunk):
            kept["logprobs"].setdefault("refusal", None)
        choices.append(kept)
    tidied = {k: v for k, v in value.items() if v is not None}
    if "choices" in value:
        tidied["choices"] = choices
    if tidied.get("usage") is not None:
        tidied["usage"] = _without_nulls(tidied["usage"])
    return tidied


def _tidy_turn(turn: dict[str, Any], *, whole: bool) -> dict[str, Any]:
    """What the model said, with what clients look for, and without what is empty."""
    if "role" in turn:  # vLLM repeats the role of the message that is continued
        turn["role"] = "assistant"
    if "reasoning" in turn:
        turn.setdefault("reasoning_content", turn["reasoning"])
    if not turn.get("tool_calls"):
        turn.pop("tool_calls", None)
    elif whole:
        turn["content"] = turn["content"] or None
    if whole:
        turn.setdefault("annotations", [])
    return turn


def _without_nulls(value: dict[str, Any], *but: str) -> dict[str, Any]:
    kept = {k: _without_nulls(v) if isinstance(v, dict) else v for k, v in value.items()}
    kept = {k: v for k, v in kept.items() if v is not None or k in but}
    for name in but:
        kept.setdefault(name, None)
    return kept


def _refusal(status: int, body: bytes) -> ServeError:
    try:
        value = json.loads(body)
        error = value["error"]
        return _error(status, error if isinstance(error, dict) else {"message": str(error)})
    except (ValueError, KeyError, TypeError):
        return InternalError("The engine failed on this request; the server's log has the reason.")


def _error(status: int, error: dict[str, Any]) -> ServeError:
    """Our error for one of vLLM's. Whether the engine died is for the backend to say."""
    message, param = without_paths(str(error.get("message", ""))), error.get("param")
    param = str(param).removeprefix("body.") if param else None
    if (first := _VALIDATION.search(message)) is not None:
        message = f"{param}: {first['said']}." if param else f"{first['said']}."
    if status == 501:
        return UnsupportedParameter(message, param=param)
    if 400 <= status < 500:
        if "maximum context length" in message or "max_model_len" in message:
            return PromptTooLong(message, param=param)
        return InvalidRequest(message, param=param)
    return InternalError("The engine failed on this request; the server's log has the reason.")
