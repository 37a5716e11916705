"""What is put right in the events and answers of vLLM's own Messages; no vLLM runs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llm_serve.backends.vllm.inner_server import InnerServer
from llm_serve.errors import InternalError
from tests.support.anthropic_types import check_count, check_message, read_events, whole
from tests.support.client import COUNT, MESSAGES

ASKED = b'{"max_tokens":10}'
USAGE = {"input_tokens": 3, "output_tokens": 0}
STARTED: dict[str, Any] = {
    "type": "message_start",
    "message": {
        "id": "chatcmpl-1",
        "type": "message",
        "role": "assistant",
        "content": [],
        "model": "m",
        "stop_reason": None,
        "stop_sequence": None,
        "usage": USAGE,
    },
}
ENDED: list[dict[str, Any]] = [
    {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None},
        "usage": {"input_tokens": 3, "output_tokens": 2},
    },
    {"type": "message_stop"},
]


def _server(body: bytes, media_type: bytes, told: list[Any]) -> InnerServer:
    """One that answers so; what it was sent comes into `told`."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        told.append(json.loads((await receive())["body"]))
        headers = [(b"content-type", media_type)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for start in range(0, len(body), 50):  # events are cut anywhere
            piece = body[start : start + 50]
            await send({"type": "http.response.body", "body": piece, "more_body": True})

    return InnerServer(app, 1024)


async def _streamed(*events: dict[str, Any]) -> bytes:
    sent = "".join(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in events)
    server = _server(sent.encode(), b"text/event-stream; charset=utf-8", [])
    return b"".join([message async for message in server.post(MESSAGES, ASKED)])


async def _whole(path: str, value: dict[str, Any]) -> dict[str, Any]:
    server = _server(json.dumps(value).encode(), b"application/json", [])
    body: dict[str, Any] = json.loads(b"".join([m async for m in server.post(path, ASKED)]))
    return body


async def test_reasoning_has_a_signature_from_the_start() -> None:
    block = {"type": "thinking", "thinking": ""}
    said = {"type": "thinking_delta", "thinking": "Hm."}
    signed = {"type": "signature_delta", "signature": "abc"}
    events = [
        STARTED,
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_delta", "index": 0, "delta": said},
        {"type": "content_block_delta", "index": 0, "delta": signed},
        {"type": "content_block_stop", "index": 0},
        *ENDED,
    ]
    message = whole(read_events(await _streamed(*events)))
    assert message["content"] == [{"type": "thinking", "thinking": "Hm.", "signature": "abc"}]


async def test_an_answer_without_text_has_a_block() -> None:
    message = whole(read_events(await _streamed(STARTED, *ENDED)))
    assert message["content"] == [{"type": "text", "text": ""}]


async def test_a_failure_midway_is_ours_to_tell() -> None:
    error = {"type": "error", "error": {"type": "internal_error", "message": "secret"}}
    with pytest.raises(InternalError) as failed:
        await _streamed(STARTED, error, *ENDED)
    assert "secret" not in failed.value.message


async def test_whole_answers() -> None:
    answer = {**STARTED["message"], "content": [], "stop_reason": "end_turn"}
    del answer["stop_sequence"]
    check_message(await _whole(MESSAGES, answer))
    counted = {"input_tokens": 3, "context_management": {"original_input_tokens": 3}}
    check_count(await _whole(COUNT, counted))


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ({"max_tokens": 1024}, {"max_tokens": 1024}),
        ({"max_tokens": 32000}, {"max_tokens": 1024}),
        (
            {"max_tokens": 32000, "thinking": {"type": "enabled", "budget_tokens": 2000}},
            {"max_tokens": 1024, "thinking": {"type": "adaptive"}},
        ),
    ],
)
async def test_no_more_is_asked_for_than_the_context_holds(
    asked: dict[str, Any], sent: dict[str, Any]
) -> None:
    told: list[Any] = []
    server = _server(b'{"input_tokens":1}', b"application/json", told)
    assert [message async for message in server.post(MESSAGES, json.dumps(asked).encode())]
    assert told == [sent]
