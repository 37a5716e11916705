"""A client whose every response is checked: status, headers, and the body against its schema.

Synchronous over HTTP or in process alike, so that a test reads the same on both.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from llm_serve.errors import ServeError
from tests.support import answers, anthropic_types, openai_events, openai_schemas
from tests.support.errors import every_error

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
MESSAGES, COUNT = "/v1/messages", "/v1/messages/count_tokens"
RESPONSES = "/v1/responses"
KEPT = httpx.Limits(max_keepalive_connections=None, keepalive_expiry=None)
"""For a client that threads share: of the idle connections that are too many or too old, httpcore
closes now and then one that another thread has just taken."""
_KINDS = {(cls.status, cls.type, cls.code) for cls in every_error()}


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


@dataclass
class Stream:
    """A whole SSE answer, read to its end."""

    response: httpx.Response
    chunks: list[dict[str, Any]] = field(default_factory=list)
    error: dict[str, Any] | None = None
    done: bool = False
    comments: list[str] = field(default_factory=list)
    """What came before the first frame while the model was loading."""

    def text(self, index: int = 0) -> str:
        """What one choice said."""
        parts = []
        for chunk in self.chunks:
            for choice in chunk["choices"]:
                if choice["index"] == index:
                    part = choice["delta"].get("content") if "delta" in choice else choice["text"]
                    parts.append(part or "")
        return "".join(parts)

    def finish(self, index: int = 0) -> str | None:
        """The finish reason of one choice, which comes once and last."""
        reasons = [
            choice["finish_reason"]
            for chunk in self.chunks
            for choice in chunk["choices"]
            if choice["index"] == index
        ]
        assert all(reason is None for reason in reasons[:-1])
        return reasons[-1] if reasons else None


def parse_frames(body: bytes, comments: list[str] | None = None) -> Iterator[str]:
    """The `data:` of each SSE event; every event must be whole UTF-8 by itself.

    Comments go into `comments`; where that is None there must be none.
    """
    assert body.endswith(b"\n\n")
    for event in body[:-2].split(b"\n\n"):
        text = event.decode()
        if comments is not None and text.startswith(": "):
            comments.append(text.removeprefix(": "))
            continue
        assert text.startswith("data: "), text
        yield text.removeprefix("data: ")


def parse_stream(response: httpx.Response) -> Stream:
    """Checks the frames of a stream: each valid, and nothing after `[DONE]` or an error."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["cache-control"] == "no-cache"
    stream = Stream(response)
    for data in parse_frames(response.content, stream.comments):
        assert not stream.done, "a frame after [DONE]"
        assert stream.error is None, "a frame after the error"
        if data == "[DONE]":
            stream.done = True
            continue
        value = json.loads(data)
        openai_schemas.check(value, streamed=True)
        if (kind := answers.kind_of_frame(value)) is not None:
            answers.check(kind, data)
        if "error" in value:
            check_error_object(value)
            stream.error = value["error"]
        else:
            stream.chunks.append(value)
    assert stream.done != (stream.error is not None), "neither or both of [DONE] and an error"
    ids = {(c["id"], c["model"], c["created"], c["object"]) for c in stream.chunks}
    assert len(ids) <= 1, "the chunks of one answer share id, model, created and object"
    return stream


def check_error_object(body: dict[str, Any]) -> None:
    """OpenAI's error object and nothing else, with something to read in it.

    Beside it is the guide's `model.load` object where the model is on its way, and only there.
    """
    on_its_way = body["error"]["code"] == "model_not_ready" and "loading" in body
    assert set(body) == ({"error", "loading"} if on_its_way else {"error"})
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["error"]["message"].strip()
    assert "Traceback" not in body["error"]["message"]


def check(response: httpx.Response) -> httpx.Response:
    """What holds for every response, whatever it answers."""
    assert len(response.headers.get_list("x-request-id")) == 1, response.headers
    if response.request.method == "HEAD" or response.status_code == 204:
        return response
    if response.headers["content-type"].startswith("text/event-stream"):
        return response
    assert response.headers["content-type"] == "application/json", response.text
    body = response.json()
    path = response.request.url.path
    if isinstance(body, dict) and body.get("object") == "response" and "output" in body:
        openai_events.check_response(response.content)
    if (kind := answers.kind_of(path, body)) is not None:
        answers.check(kind, response.content)
    if path.endswith((MESSAGES, COUNT)):
        _check_messages(response.status_code, body)
    else:
        openai_schemas.check(body)
    if response.status_code >= 400:
        error = body["error"]
        if not path.endswith((MESSAGES, COUNT)):
            check_error_object(body)
            assert (response.status_code, error["type"], error["code"]) in _KINDS
        waits = response.headers.get("retry-after")
        assert (waits is not None) == (response.status_code in (429, 503)), response.headers
        assert waits is None or 1 <= int(waits) <= 60
    return response


def _check_messages(status: int, body: dict[str, Any]) -> None:
    """What Anthropic's SDK reads on the Messages routes."""
    if status >= 400:
        anthropic_types.check_error(body)
        assert (status, body["error"]["code"]) in {(s, code) for s, _, code in _KINDS}
        assert body["error"]["message"].strip()
    elif "input_tokens" in body:
        anthropic_types.check_count(body)
    elif status == 200:
        anthropic_types.check_message(body)


class Api:
    """The routes, over an httpx client."""

    gateway: Any = None
    """The gateway of an app in this process, and its event loop."""
    loop: Any = None

    def __init__(self, client: httpx.Client, model: str | None = None) -> None:
        self.client = client
        self.model = model

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        return check(self.client.request(method, path, **options))

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.request("GET", path, **options)

    def health(self) -> dict[str, Any]:
        view: dict[str, Any] = self.get("/healthz").json()
        return view

    def post(self, path: str, body: Any, **options: Any) -> httpx.Response:
        """`body` as JSON; bytes as they are."""
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        headers = {"content-type": "application/json", **options.pop("headers", {})}
        return self.request("POST", path, content=body, headers=headers, **options)

    def chat(self, text: str = "hello there", **fields: Any) -> httpx.Response:
        return self.post(CHAT, self._body({"messages": user(text)}, fields))

    def complete(self, prompt: Any = "hello there", **fields: Any) -> httpx.Response:
        return self.post(TEXT, self._body({"prompt": prompt}, fields))

    def chat_stream(self, text: str = "hello there", **fields: Any) -> Stream:
        return parse_stream(self.chat(text, stream=True, **fields))

    def complete_stream(self, prompt: Any = "hello there", **fields: Any) -> Stream:
        return parse_stream(self.complete(prompt, stream=True, **fields))

    def respond(self, text: Any = "hello there", **fields: Any) -> httpx.Response:
        """A turn of `/v1/responses`; `text` may be a list of items."""
        return self.post(RESPONSES, self._body({"input": text}, fields))

    def respond_stream(self, text: Any = "hello there", **fields: Any) -> list[dict[str, Any]]:
        """The same as events, each and all of them checked."""
        response = self.respond(text, stream=True, **fields)
        assert response.status_code == 200, response.text
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        return openai_events.parse_events(response.content, [])

    def _body(self, base: dict[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
        model = {} if self.model is None else {"model": self.model}
        return {**model, **base, **fields}


def refused(response: httpx.Response, kind: type[ServeError], param: str | None = None) -> str:
    """Asserts that this is an error of that kind about that field; returns its sentence."""
    assert response.status_code == kind.status, response.text
    error = response.json()["error"]
    kinds = {"type": error["type"], "code": error["code"]}
    if "type" in response.json():  # Anthropic's error, whose types are others
        del kinds["type"]
    assert kinds.items() <= {"type": kind.type, "code": kind.code}.items(), error
    assert error["param"] == param, error
    return str(error["message"])
