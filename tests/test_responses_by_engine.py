"""Answers of vLLM's own `/v1/responses`, as its sources write them, told anew; tests/vllm has the
real ones."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

import pytest

from llm_serve.errors import EngineDied
from llm_serve.generation.responses_by_engine import answered
from tests.support.openai_events import check_response, parse_events, text_of
from tests.test_responses_renderer import REQUEST

USAGE = {
    "input_tokens": 9,
    "input_tokens_details": {
        "cached_tokens": 4,
        "cache_write_tokens": 0,
        "input_tokens_per_turn": [9],
        "cached_tokens_per_turn": [4],
    },
    "output_tokens": 12,
    "output_tokens_details": {"reasoning_tokens": 5, "tool_output_tokens": 0},
    "total_tokens": 21,
}
REASONING = {
    "id": "rs_a",
    "type": "reasoning",
    "summary": [],
    "content": [{"type": "reasoning_text", "text": "Hm."}],
    "encrypted_content": None,
    "status": None,
}
TOKEN = {"token": "Yes.", "bytes": None, "logprob": -0.5, "top_logprobs": []}
PART = {"type": "output_text", "text": "Yes.", "annotations": [], "logprobs": [TOKEN]}
MESSAGE = {
    "id": "msg_a",
    "type": "message",
    "role": "assistant",
    "status": "completed",
    "content": [PART],
    "phase": None,
}
CALL = {
    "id": "fc_a",
    "type": "function_call",
    "call_id": "call_a",
    "name": "patch",
    "arguments": '{"input": "*** Begin"}',
    "status": "completed",
    "namespace": None,
}
WHOLE: dict[str, Any] = {
    "id": REQUEST.id,
    "object": "response",
    "created_at": 1,
    "model": "x",
    "output": [REASONING, MESSAGE, CALL],
    "status": "completed",
    "usage": USAGE,
    "kv_transfer_params": None,
}


def events(status: str = "completed") -> list[dict[str, Any]]:
    begun = {**CALL, "arguments": "", "status": "in_progress"}
    added = "response.output_item.added"
    return [
        {"type": "response.created", "response": {**WHOLE, "output": [], "usage": None}},
        {"type": "response.in_progress", "response": {**WHOLE, "output": [], "usage": None}},
        {"type": added, "output_index": 0, "item": {**REASONING, "content": None}},
        {"type": "response.reasoning_text.delta", "delta": "H"},
        {"type": "response.reasoning_text.delta", "delta": "m."},
        {"type": "response.output_item.done", "output_index": 0, "item": REASONING},
        {"type": added, "output_index": 1, "item": {**MESSAGE, "content": []}},
        {"type": "response.output_text.delta", "delta": "Yes.", "logprobs": [TOKEN]},
        {"type": "response.output_text.done", "text": "Yes.", "logprobs": []},
        {"type": "response.output_item.done", "output_index": 1, "item": MESSAGE},
        {"type": added, "output_index": 2, "item": begun},
        {"type": "response.function_call_arguments.delta", "delta": CALL["arguments"]},
        {"type": "response.function_call_arguments.done", "arguments": "", "name": "patch"},
        {"type": "response.output_item.done", "output_index": 2, "item": CALL},
        {"type": "response.completed", "response": {**WHOLE, "status": status}},
    ]  # fmt: skip


async def _told(
    *messages: bytes, stream: bool = True, error: Exception | None = None
) -> list[bytes]:
    async def engine() -> AsyncGenerator[bytes, None]:
        for message in messages:
            yield message
        if error is not None:
            raise error

    return [m async for m in answered(replace(REQUEST, stream=stream), engine())]


def frames(*some: dict[str, Any]) -> bytes:
    return b"".join(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n".encode() for e in some)


@pytest.mark.parametrize("together", [True, False])
async def test_a_stream(together: bool) -> None:
    messages = [frames(*events())] if together else [frames(event) for event in events()]
    told = parse_events(b"".join(await _told(*messages)))
    last = told[-1]["response"]
    assert told[-1]["type"] == "response.completed"
    thought, said, call = last["output"]
    assert (text_of(thought), text_of(said)) == ("Hm.", "Yes.")
    assert said["content"][0]["logprobs"][0]["bytes"] == list(b"Yes.")
    assert (call["type"], call["input"], call["call_id"]) == (
        *("custom_tool_call", "*** Begin", "call_a"),
    )
    assert last["usage"]["output_tokens_details"] == {"reasoning_tokens": 5}
    assert last["usage"]["input_tokens_details"]["cached_tokens"] == 4
    assert (last["usage"]["input_tokens"], last["usage"]["output_tokens"]) == (9, 12)


async def test_a_stream_that_was_cut_ends_as_one() -> None:
    told = parse_events(b"".join(await _told(frames(*events("incomplete")))))
    assert told[-1]["type"] == "response.incomplete"


async def test_a_whole_answer() -> None:
    (body,) = await _told(json.dumps(WHOLE).encode(), stream=False)
    response = check_response(body)
    assert [item["type"] for item in response["output"]] == [
        *("reasoning", "message", "custom_tool_call"),
    ]
    (cut,) = await _told(json.dumps({**WHOLE, "status": "incomplete"}).encode(), stream=False)
    assert check_response(cut)["status"] == "incomplete"


async def test_a_failure() -> None:
    told = parse_events(b"".join(await _told(frames(*events()[:9]), error=EngineDied("Died."))))
    assert told[-1]["type"] == "response.failed"
    assert text_of(told[-1]["response"]["output"][1]) == "Yes."
    with pytest.raises(EngineDied):
        await _told(error=EngineDied("Died."))
    with pytest.raises(EngineDied):
        await _told(error=EngineDied("Died."), stream=False)
