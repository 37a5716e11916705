"""Tools on the wire of chats: what echo models were told to answer is read as calls, whole and in
streams; and OpenAI's own client makes of it what it makes of OpenAI's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from openai import OpenAI, pydantic_function_tool
from pydantic import BaseModel

from llm_serve.errors import UnsupportedParameter
from tests.support.client import CHAT, Api, Stream, refused, user
from tests.support.inprocess import echo, serving
from tests.support.sdk import clients

CALL = '<tool_call>\n{"name": "%s", "arguments": %s}\n</tool_call>'
OSLO = '{"city": "Oslo"}'
TWO = f"Let me see. {CALL % ('weather', OSLO)}\n{CALL % ('weather', '{}')}"
THOUGHT = "<think>\nIs it cold there?\n</think>\n\nIt is."
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
TOOLS = [WEATHER, {"type": "function", "function": {"name": "time"}}]


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    """`calls` answers a first turn with calls; `thinks` reasons; `echo/a` says what it hears."""
    with serving(
        echo("calls", answers=[TWO, "It is cold."]),
        echo("thinks", answers=[THOUGHT], reasoning_parser="qwen3"),
        echo("echo/a"),
    ) as api:
        yield api


def pieces(stream: Stream, index: int = 0) -> list[dict[str, Any]]:
    """The deltas of one choice."""
    choices = (choice for chunk in stream.chunks for choice in chunk["choices"])
    return [choice["delta"] for choice in choices if choice["index"] == index]


def calls(stream: Stream, index: int = 0) -> list[dict[str, Any]]:
    """The calls of one choice, put together, after a look at how each began."""
    found: list[dict[str, Any]] = []
    for delta in pieces(stream, index):
        for piece in delta.get("tool_calls", ()):
            if piece["index"] == len(found):
                assert piece["type"] == "function"
                assert piece["id"].startswith("call_")
                assert piece["function"]["arguments"] == ""
                found.append({"name": piece["function"]["name"], "arguments": ""})
            else:
                assert set(piece) == {"index", "function"}
                assert piece["index"] == len(found) - 1, "one call after the other"
                found[-1]["arguments"] += piece["function"]["arguments"]
    return found


def test_calls_of_a_whole_answer(api: Api) -> None:
    (choice,) = api.chat(tools=TOOLS).json()["choices"]
    assert choice["finish_reason"] == "tool_calls"
    message = choice["message"]
    assert message["content"] == "Let me see."
    assert [call["function"] for call in message["tool_calls"]] == [
        {"name": "weather", "arguments": '{"city": "Oslo"}'},
        {"name": "weather", "arguments": "{}"},
    ]
    assert len({call["id"] for call in message["tool_calls"]}) == 2


@pytest.mark.parametrize("n", [1, 3])
def test_a_stream_says_what_the_whole_answer_says(api: Api, n: int) -> None:
    options = {"include_usage": True}
    stream = api.chat_stream(tools=TOOLS, n=n, stream_options=options)
    for index in range(n):
        assert stream.text(index) == "Let me see."
        assert stream.finish(index) == "tool_calls"
        assert calls(stream, index) == [
            {"name": "weather", "arguments": '{"city": "Oslo"}'},
            {"name": "weather", "arguments": "{}"},
        ]
        assert pieces(stream, index)[0]["role"] == "assistant"
    whole = api.chat(tools=TOOLS, n=n).json()
    assert stream.chunks[-1]["usage"] == whole["usage"]
    assert all(
        any(c["delta"] or c["finish_reason"] for c in k["choices"]) for k in stream.chunks[:-1]
    )


def test_an_answer_of_calls_alone_has_no_text(api: Api) -> None:
    said = CALL % ("time", "{}")
    message = api.chat(said, model="echo/a", tools=TOOLS).json()["choices"][0]["message"]
    assert message["content"] is None
    assert "content" not in pieces(api.chat_stream(said, model="echo/a", tools=TOOLS))[-1]


@pytest.mark.parametrize("fields", [{}, {"tools": TOOLS, "tool_choice": "none"}])
def test_without_tools_to_call_it_is_text(api: Api, fields: dict[str, Any]) -> None:
    (choice,) = api.chat(**fields).json()["choices"]
    assert choice["message"]["content"] == TWO
    assert "tool_calls" not in choice["message"]
    assert choice["finish_reason"] == "stop"


def test_tokens_that_end_within_a_call(api: Api) -> None:
    """The log-probabilities are of all tokens that were sampled, those of calls too."""
    fields: dict[str, Any] = {"tools": TOOLS, "max_tokens": 8, "logprobs": True}
    whole = api.chat(**fields).json()["choices"][0]
    stream = api.chat_stream(**fields)
    assert whole["finish_reason"] == stream.finish() == "length"
    (call,) = whole["message"]["tool_calls"]
    assert call["function"]["arguments"] == '{"city": '
    assert calls(stream) == [call["function"]]
    tokens = [entry["token"] for entry in whole["logprobs"]["content"]]
    assert len(tokens) == 8
    assert TWO.startswith("".join(tokens))
    streamed = (c["logprobs"]["content"] for k in stream.chunks for c in k["choices"])
    assert [entry["token"] for entries in streamed for entry in entries] == tokens


def test_reasoning_has_both_its_names(api: Api) -> None:
    message = api.chat(model="thinks").json()["choices"][0]["message"]
    assert message["reasoning"] == message["reasoning_content"] == "Is it cold there?"
    assert message["content"] == "It is."
    stream = api.chat_stream(model="thinks")
    for name in ("reasoning", "reasoning_content"):
        assert "".join(p.get(name, "") for p in pieces(stream)) == "Is it cold there?"
    assert stream.text() == "It is."


def test_a_call_and_its_result_are_read(api: Api) -> None:
    message = api.chat(tools=TOOLS).json()["choices"][0]["message"]
    results = [
        {"role": "tool", "tool_call_id": call["id"], "content": [{"type": "text", "text": "-3"}]}
        for call in message["tool_calls"]
    ]
    turns = [{"role": "developer", "content": "Be brief."}, *user("hi"), message, *results]
    answer = api.post(CHAT, {"model": "calls", "messages": turns, "tools": TOOLS}).json()
    assert answer["choices"][0]["message"]["content"] == "It is cold."


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "time"}}])
def test_a_call_that_cannot_be_enforced_is_refused(api: Api, choice: Any) -> None:
    response = api.chat(tools=TOOLS, tool_choice=choice)
    assert "'auto' or 'none'" in refused(response, UnsupportedParameter, "tool_choice")


def test_what_a_model_makes_of_tools_is_shown(api: Api) -> None:
    details = api.get("/v1/models/calls").json()["engine_details"]
    assert (details["tool_rendering"], details["tool_call_parser"]) == ("plain", "hermes")


class weather(BaseModel):  # noqa: N801 - the name of the function
    """The weather in a city."""

    city: str = ""


@pytest.fixture
def sdk(api: Api) -> Iterator[OpenAI]:
    yield from clients("http://test/v1", http_client=httpx.Client(transport=api.client._transport))


def test_openais_client_streams_parses_and_sends_back(sdk: OpenAI) -> None:
    """Its own objects are sent back as they are, with what it has added to them."""
    asked: Any = {"model": "calls", "tools": [pydantic_function_tool(weather)]}
    with sdk.chat.completions.stream(messages=user("hi"), **asked) as stream:
        arguments = [e.arguments for e in stream if e.type == "tool_calls.function.arguments.done"]
        streamed = stream.get_final_completion().choices[0].message
    assert arguments == ['{"city": "Oslo"}', "{}"]
    parsed = sdk.chat.completions.parse(messages=user("hi"), **asked).choices[0].message
    for message in (streamed, parsed):
        assert message.content == "Let me see."
        made = message.tool_calls or []
        assert [c.function.parsed_arguments for c in made] == [weather(city="Oslo"), weather()]
        results = [{"role": "tool", "tool_call_id": call.id, "content": "-3"} for call in made]
        turns: Any = [*user("hi"), message, *results]
        answer = sdk.chat.completions.create(messages=turns, **asked)
        assert answer.choices[0].message.content == "It is cold."
