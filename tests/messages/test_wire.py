"""The Messages routes over the app: every answer is held to the types of Anthropic's SDK."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from llm_serve.errors import (
    InvalidRequest,
    MissingKey,
    PromptTooLong,
    UnknownModel,
    UnsupportedParameter,
    WrongKey,
    WrongMethod,
)
from tests.messages.conftest import BASH
from tests.support.anthropic_types import check_error, events_of, read_events, whole
from tests.support.client import COUNT, MESSAGES, Api, refused, user
from tests.support.inprocess import echo, serving

BETA = {"anthropic-beta": "something-2026-01-01"}


def _ask(api: Api, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
    body = {"model": "plain", "max_tokens": 32000, "messages": user("one two three"), **fields}
    return api.post(MESSAGES, body, headers=headers or {})


def _both(api: Api, **fields: Any) -> dict[str, Any]:
    """The answer whole and streamed, which agree but for what is made anew."""
    body = _ask(api, **fields).json()
    streamed = whole(events_of(_ask(api, stream=True, **fields)))
    for message in (body, streamed):
        for block in message["content"]:
            block.pop("id", None)
        del message["id"]
    assert streamed == body
    return body


def test_a_text(api: Api) -> None:
    body = _both(api)
    assert body["content"] == [{"type": "text", "text": "one two three"}]
    assert (body["stop_reason"], body["stop_sequence"]) == ("end_turn", None)
    assert (body["usage"]["input_tokens"], body["usage"]["output_tokens"]) == (3, 3)


@pytest.mark.parametrize(
    ("fields", "reason", "sequence", "text"),
    [
        ({"max_tokens": 2}, "max_tokens", None, "one two "),
        ({"stop_sequences": ["four", " thr"]}, "stop_sequence", " thr", "one two "),
    ],
)
def test_why_it_ends(
    api: Api, fields: dict[str, Any], reason: str, sequence: str | None, text: str
) -> None:
    body = _both(api, **fields)
    assert (body["stop_reason"], body["stop_sequence"]) == (reason, sequence)
    assert body["content"][0]["text"].startswith(text.rstrip())


def test_a_context_that_is_full_is_told_from_the_bound_of_the_client() -> None:
    with serving(echo(context_length=16)) as small:
        body = {"max_tokens": 32000, "messages": user("word " * 9)}
        assert small.post(MESSAGES, body).json()["stop_reason"] == "model_context_window_exceeded"
        assert small.post(MESSAGES, {**body, "max_tokens": 4}).json()["stop_reason"] == "max_tokens"
        body["messages"] = user("word " * 16)
        refused(small.post(MESSAGES, body), PromptTooLong, "messages")


def test_a_round_trip_with_a_tool(api: Api) -> None:
    asked = {"model": "caller", "tools": [BASH]}
    body = _both(api, **asked)
    text, call = body["content"]
    assert text == {"type": "text", "text": "Let me see."}
    assert (call["name"], call["input"]) == ("Bash", {"command": "ls", "n": [1]})
    assert body["stop_reason"] == "tool_use"
    call["id"] = "toolu_1"
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "a.txt"}
    turns = [
        *user("List."),
        {"role": "assistant", "content": body["content"]},
        {"role": "user", "content": [result]},
    ]
    last = _both(api, **asked, messages=turns)
    assert last["content"] == [{"type": "text", "text": "All done."}]
    assert last["stop_reason"] == "end_turn"


@pytest.mark.parametrize("choice", [{"type": "none"}, None])
def test_without_tools_a_call_is_text(api: Api, choice: dict[str, str] | None) -> None:
    tools = {} if choice is None else {"tools": [BASH], "tool_choice": choice}
    body = _both(api, model="caller", **tools)
    assert [block["type"] for block in body["content"]] == ["text"]
    assert "<tool_call>" in body["content"][0]["text"]


@pytest.mark.parametrize(
    ("thinking", "shown"),
    [
        (None, []),
        ({"type": "disabled"}, []),
        ({"type": "between_tools"}, []),
        ({"type": "adaptive"}, ["Let me think."]),
        ({"type": "enabled", "budget_tokens": 1024}, ["Let me think."]),
        ({"type": "adaptive", "display": "omitted"}, [""]),
    ],
)
def test_reasoning_is_shown_to_whom_asks(
    api: Api, thinking: dict[str, Any] | None, shown: list[str]
) -> None:
    fields = {} if thinking is None else {"thinking": thinking}
    body = _both(api, model="thinker", **fields)
    *thoughts, text = body["content"]
    assert [block["thinking"] for block in thoughts] == shown
    assert all(block["signature"] for block in thoughts)
    assert text["text"] == "So it is."
    turns = [*user("a"), {"role": "assistant", "content": body["content"]}, *user("b")]
    assert _ask(api, messages=turns).status_code == 200


def test_a_turn_is_continued(api: Api) -> None:
    turns = [*user("Say it."), {"role": "assistant", "content": "I will"}]
    assert _both(api, messages=turns)["content"]
    wrong: list[Any] = [
        "I will ",
        "",
        [{"type": "tool_use", "id": "t", "name": "f", "input": {}}],
        [{"type": "thinking", "thinking": "a", "signature": ""}],
    ]
    for content in wrong:
        turns[1]["content"] = content
        refused(_ask(api, messages=turns), InvalidRequest, "messages")


def test_tokens_are_counted(api: Api) -> None:
    body = {"model": "plain", "messages": user("one two three"), "tools": [BASH]}
    assert api.post(COUNT, body).json() == {"input_tokens": 3}
    refused(api.post(COUNT, {**body, "max_tokens": 1}), InvalidRequest, "max_tokens")
    assert api.post(COUNT, {**body, "max_tokens": 1}, headers=BETA).status_code == 200


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": None}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "system"}]}, "messages"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
        ({"messages": [{"role": "robot", "content": "a"}]}, "messages[0]"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"temperature": 1.1}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"stop_sequences": [""]}, "stop_sequences[0]"),
        ({"zork": 1}, "zork"),
        ({"system": [{"type": "text", "text": "a", "zork": 1}]}, "system[0].zork"),
        ({"tools": [{"name": "a b", "input_schema": {}}]}, "tools[0].name"),
        ({"tools": [{"name": "a"}]}, "tools[0].input_schema"),
        ({"tools": [{"name": "a", "input_schema": {"type": "array"}}]}, "tools[0].input_schema"),
        ({"tools": [BASH, BASH]}, "tools[1].name"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"tools": [BASH], "tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"tools": [BASH], "tool_choice": {"type": "tool", "name": "b"}}, "tool_choice.name"),
        (
            {"tools": [{**BASH, "defer_loading": True}], "tool_choice": {"type": "any"}},
            "tool_choice",
        ),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 2048}, "max_tokens": 2048},
            "thinking.budget_tokens",
        ),
    ],
)
def test_what_is_wrong_is_named(api: Api, fields: dict[str, Any], param: str) -> None:
    assert param.split("[")[0].split(".")[0] in refused(_ask(api, **fields), InvalidRequest, param)


SEARCH = {"type": "web_search_20250305", "name": "web_search"}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": ""}}
DOCUMENT = {"type": "document", "source": {"type": "text", "data": "a"}}
RESULT = {"type": "tool_result", "tool_use_id": "t", "content": [IMAGE]}
FORMAT = {"type": "json_schema", "schema": {"type": "object"}}


@pytest.mark.parametrize("headers", [{}, BETA])
@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"mcp_servers": []}, "mcp_servers"),
        ({"container": "c"}, "container"),
        ({"inference_geo": "eu"}, "inference_geo"),
        ({"thread": {}}, "thread"),
        ({"tools": [SEARCH]}, "tools[0].type"),
        ({"messages": [{"role": "user", "content": [{}]}]}, "messages[0].content[0]"),
        ({"top_k": 3}, "top_k"),
        ({"tools": [BASH], "tool_choice": {"type": "any"}}, "tool_choice"),
        ({"messages": [{"role": "user", "content": [IMAGE]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [DOCUMENT]}]}, "messages[0].content[0]"),
        (
            {"messages": [{"role": "user", "content": [RESULT]}]},
            "messages[0].content[0].content[0]",
        ),
        ({"output_config": {"format": FORMAT}}, "output_config.format"),
        ({"output_format": FORMAT}, "output_format"),
        (
            {"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}},
            "context_management.edits[0].type",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(
    api: Api, fields: dict[str, Any], param: str, headers: dict[str, str]
) -> None:
    refused(_ask(api, headers, **fields), UnsupportedParameter, param)


def test_a_newer_client_may_send_members_that_are_not_known(api: Api) -> None:
    """Not so one that announces nothing: what it sends may be a slip of the pen."""
    turns = [{"role": "user", "content": [{"type": "text", "text": "hi", "zork": 1}], "more": {}}]
    fields = {"messages": turns, "zork": [1], "output_config": {"effort": "high", "zork": 2}}
    assert _ask(api, BETA, **fields).json()["content"][0]["text"] == "hi"
    refused(_ask(api, **fields), InvalidRequest, "messages[0].content[0].zork")


def test_errors_are_anthropics_wherever_they_come_from(api: Api) -> None:
    refused(_ask(api, model="nope"), UnknownModel, "model")
    refused(api.post(MESSAGES, b"{"), InvalidRequest)
    refused(api.get(MESSAGES), WrongMethod)
    with serving(keys=("right",)) as guarded:
        refused(guarded.post(MESSAGES, {}), MissingKey)
        refused(guarded.post(COUNT, {}, headers={"x-api-key": "wrong"}), WrongKey)
        for right in ({"x-api-key": "right"}, {"authorization": "Bearer right"}):
            refused(guarded.post(MESSAGES, {}, headers=right), InvalidRequest, "messages")


def test_a_failure_in_a_stream_is_an_error_event() -> None:
    with serving(echo(fail_after_tokens=2)) as failing:
        body = {"max_tokens": 9, "messages": user("a b c"), "stream": True}
        *events, last = read_events(failing.post(MESSAGES, body).content)
        assert events[0]["type"] == "message_start"
        check_error(last)
        assert (last["error"]["type"], last["error"]["code"]) == ("api_error", "internal_error")
