"""The types of Anthropic's SDK, against which answers of the Messages routes are held, strictly:
nothing missing, nothing of another type, and no member that they do not have."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import httpx
import pydantic
from anthropic.types import (
    Message,
    MessageTokensCount,
    RawContentBlockDeltaEvent,
    RawContentBlockStartEvent,
    RawContentBlockStopEvent,
    RawMessageDeltaEvent,
    RawMessageStartEvent,
    RawMessageStopEvent,
)
from anthropic.types.shared import ErrorResponse
from pydantic import TypeAdapter, ValidationError

EVENTS = {
    "message_start": RawMessageStartEvent,
    "content_block_start": RawContentBlockStartEvent,
    "content_block_delta": RawContentBlockDeltaEvent,
    "content_block_stop": RawContentBlockStopEvent,
    "message_delta": RawMessageDeltaEvent,
    "message_stop": RawMessageStopEvent,
}
"""The members of the SDK's union of events, by their type."""
PING = {"type": "ping"}
"""An event that the SDK drops before it looks at types."""


def check(kind: Any, value: Any) -> None:
    """Fails unless the JSON value is exactly of the SDK's type."""
    try:
        read = _adapter(kind).validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        raise AssertionError(f"not what the SDK expects: {error}\n{value}") from None
    more = list(_unknown(read))
    assert not more, f"the SDK does not know {more}: {value}"


def check_message(value: Any) -> None:
    check(Message, value)
    assert value["stop_reason"] is not None
    assert value["content"], "many a client reads the first block unasked"


def check_count(value: Any) -> None:
    check(MessageTokensCount, value)


def check_error(value: dict[str, Any]) -> None:
    """Anthropic's error, with our `param` and `code` in it, and `loading` beside it."""
    theirs = {key: item for key, item in value.items() if key != "loading"}
    theirs["error"] = {k: v for k, v in value["error"].items() if k not in ("param", "code")}
    assert value["error"].keys() - theirs["error"].keys() == {"param", "code"}
    check(ErrorResponse, theirs)


def events_of(response: httpx.Response) -> list[dict[str, Any]]:
    """The events of a whole stream, each with the name that its data says."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    return read_events(response.content)


def read_events(body: bytes) -> list[dict[str, Any]]:
    """See `events_of`; comments are left out."""
    assert body.endswith(b"\n\n")
    events = []
    for text in body.decode()[:-2].split("\n\n"):
        if text.startswith(": "):
            continue
        name, data = text.split("\n")
        value = json.loads(data.removeprefix("data: "))
        assert name == f"event: {value['type']}"
        events.append(value)
    return events


def whole(events: list[dict[str, Any]]) -> dict[str, Any]:
    """The message that the events of a stream make, each checked, and the order of them too:
    blocks one after the other, every delta in the open one, and nothing after the end."""
    first, *rest = events
    assert first["type"] == "message_start"
    for value in events:
        if value != PING:
            check(EVENTS[value["type"]], value)
    message: dict[str, Any] = first["message"]
    assert (message["content"], message["stop_reason"]) == ([], None)
    content: list[dict[str, Any]] = message["content"]
    arguments, is_open = "", False
    ended = [value["type"] for value in rest[-2:]]
    assert ended == ["message_delta", "message_stop"], ended
    for value in rest[:-2]:
        if value == PING:
            continue
        match value["type"]:
            case "content_block_start":
                assert not is_open
                assert value["index"] == len(content)
                is_open, arguments = True, ""
                content.append(dict(value["content_block"]))
            case "content_block_delta":
                assert is_open
                assert value["index"] == len(content) - 1
                arguments += _grow(content[-1], value["delta"])
            case "content_block_stop":
                assert is_open
                assert value["index"] == len(content) - 1
                is_open = False
                if arguments:
                    content[-1]["input"] = json.loads(arguments)
            case other:
                raise AssertionError(f"{other} within the message")
    assert not is_open
    message |= rest[-2]["delta"]
    message["usage"] = message["usage"] | rest[-2]["usage"]
    check_message(message)
    return message


def _grow(block: dict[str, Any], delta: dict[str, Any]) -> str:
    """Adds to the block; returns what is a piece of arguments instead."""
    match block["type"], delta["type"]:
        case "text", "text_delta":
            block["text"] += delta["text"]
        case "thinking", "thinking_delta":
            block["thinking"] += delta["thinking"]
        case "thinking", "signature_delta":
            assert not block["signature"]
            block["signature"] = delta["signature"]
        case "tool_use", "input_json_delta":
            return str(delta["partial_json"])
        case kinds:
            raise AssertionError(f"{kinds} do not go together")
    return ""


def _unknown(value: Any) -> Iterator[str]:
    """The members that no type has, anywhere in a validated value."""
    if isinstance(value, pydantic.BaseModel):
        yield from (f"{type(value).__name__}.{name}" for name in value.model_extra or ())
        for name in type(value).model_fields:
            yield from _unknown(getattr(value, name))
    elif isinstance(value, list):
        for item in value:
            yield from _unknown(item)


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
