"""The types of the installed OpenAI SDK, held to strictly: nothing more than they name, and all of
it. The SDK itself takes anything, so that an old client reads a newer server.

Beyond the types, a stream must tell one story: numbers without a gap, items that begin before they
gain, deltas that add up to what is done, and a last response that has the items as they ended.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any, get_args

from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter, ValidationError

REQUIRED = {
    *("error", "incomplete_details", "instructions", "metadata", "temperature", "top_p", "status"),
    *("usage", "previous_response_id", "text", "reasoning", "truncation", "max_output_tokens"),
}
"""Members of a response that OpenAI sends even where they are null; the SDK cannot say so."""
FIRST = ["response.created", "response.in_progress"]
LAST = {"response.completed", "response.incomplete", "response.failed"}


def check_response(raw: bytes | str) -> dict[str, Any]:
    """The response object, which is exactly of OpenAI's type."""
    _check(Response, raw)
    response: dict[str, Any] = json.loads(raw)
    assert response.keys() >= REQUIRED, REQUIRED - response.keys()
    return response


def check_event(raw: bytes | str) -> dict[str, Any]:
    """The event, which is exactly of the type that it names."""
    event: dict[str, Any] = json.loads(raw)
    _check(_types()[event["type"]], raw)
    if "response" in event:
        assert event["response"].keys() >= REQUIRED
    return event


def parse_events(body: bytes, comments: list[str] | None = None) -> list[dict[str, Any]]:
    """The events of a whole stream, each and all checked. Comments go into `comments`."""
    assert body.endswith(b"\n\n")
    events = []
    for frame in body[:-2].decode().split("\n\n"):
        if comments is not None and frame.startswith(": "):
            comments.append(frame.removeprefix(": "))
            continue
        name, data = frame.split("\n")
        event = check_event(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        events.append(event)
    check_story(events)
    return events


def check_story(events: list[dict[str, Any]]) -> None:
    """That the events follow from each other."""
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["type"] for event in events[:2]] == FIRST
    assert events[-1]["type"] in LAST
    assert all(event["type"] not in LAST for event in events[:-1])
    assert len({e["response"]["id"] for e in events if "response" in e}) == 1
    items: list[dict[str, Any]] = []
    said: dict[str, str] = {}
    ended: set[int] = set()
    for event in events[2:-1]:
        kind, index = event["type"].removeprefix("response."), event["output_index"]
        if kind == "output_item.added":
            assert index == len(items), "items are counted one by one"
            assert len(ended) == index, "an item begins once the last has ended"
            items.append(event["item"])
            said[event["item"]["id"]] = ""
            continue
        assert index == len(items) - 1, "only the last item changes"
        assert index not in ended
        if kind == "output_item.done":
            assert event["item"]["id"] == items[index]["id"]
            assert text_of(event["item"]) == said[event["item"]["id"]]
            items[index] = event["item"]
            ended.add(index)
            continue
        assert event["item_id"] == items[index]["id"]
        if kind.endswith(".delta"):
            said[event["item_id"]] += event["delta"]
        elif not kind.startswith("content_part"):
            (whole,) = (event[k] for k in ("text", "arguments", "input") if k in event)
            assert whole == said[event["item_id"]], "what is done is what was said"
        elif kind == "content_part.done":
            assert event["part"]["text"] == said[event["item_id"]]
    last = events[-1]["response"]
    assert events[-1]["type"] == f"response.{last['status']}"
    if last["status"] != "failed":
        assert len(ended) == len(items), "every item ends"
        assert last["output"] == items


def text_of(item: dict[str, Any]) -> str:
    """What an item says: the text of a message or of reasoning, a call's arguments or input."""
    if "content" in item:
        return "".join(part["text"] for part in item["content"])
    return str(item.get("arguments", item.get("input", "")))


def _check(kind: Any, raw: bytes | str) -> None:
    try:
        _adapter(kind).validate_json(raw, strict=True, extra="forbid")
    except ValidationError as error:
        raise AssertionError(f"not a {kind.__name__}: {error}\n{raw!r}") from None


@cache
def _types() -> dict[str, Any]:
    """Every event of the SDK by its `type`."""
    union = get_args(get_args(ResponseStreamEvent)[0])
    return {get_args(kind.model_fields["type"].annotation)[0]: kind for kind in union}


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
