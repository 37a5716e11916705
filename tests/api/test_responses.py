"""`/v1/responses` in this process; the client holds each answer and event to the SDK's types."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from llm_serve.errors import (
    InvalidRequest,
    NoPreviousResponse,
    NoResponse,
    PromptTooLong,
    UnsupportedParameter,
)
from tests.support.client import RESPONSES, Api, refused, user
from tests.support.inprocess import echo, serving
from tests.support.openai_events import text_of

CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call>'
CUSTOM = '<tool_call>\n{"name": "patch", "arguments": {"input": "*** Begin"}}\n</tool_call>'
NAMESPACED = '<tool_call>\n{"name": "files__read", "arguments": {"path": "a"}}\n</tool_call>'
WEATHER: dict[str, Any] = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather in a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": False,
}
PATCH: dict[str, Any] = {
    "type": "custom",
    "name": "patch",
    "description": "Changes a file.",
    "format": {"type": "grammar", "syntax": "lark", "definition": "start: /.+/"},
}
FILES: dict[str, Any] = {
    "type": "namespace",
    "name": "files",
    "description": "Files.",
    "tools": [{"type": "function", "name": "read", "parameters": {"type": "object"}}],
}
SEARCH = {"type": "web_search", "external_web_access": False}


def scripted(model: str, *answers: str, **fields: Any) -> dict[str, Any]:
    """A model that says these things, turn by turn, and then what it is told."""
    return echo(model, answers=list(answers), tool_call_parser="hermes", **fields)


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    models = (
        echo("echo/a"),
        scripted("calls", CALL, "It rains."),
        scripted("many", f"Both. {CALL}{CUSTOM}{NAMESPACED}"),
        echo("thinks", answers=["<think>Hm, one.</think>One."], reasoning_parser="deepseek_r1"),
        echo("fails", fail_after_tokens=2),
        echo("small", context_length=16),
    )
    with serving(*models) as api:
        yield api


def output_text(response: dict[str, Any]) -> str:
    return "".join(text_of(item) for item in response["output"] if item["type"] == "message")


def test_a_text_and_its_stream_agree(api: Api) -> None:
    whole = api.respond("one two three", instructions="Be brief.", metadata={"a": "b"}).json()
    assert output_text(whole) == "one two three"
    assert whole["status"] == "completed"
    assert whole["instructions"] == "Be brief."
    assert whole["metadata"] == {"a": "b"}
    assert whole["usage"]["output_tokens"] == 3
    events = api.respond_stream("one two three")
    assert output_text(events[-1]["response"]) == "one two three"
    kinds = [event["type"].removeprefix("response.") for event in events]
    assert kinds == [
        *("created", "in_progress", "output_item.added", "content_part.added"),
        *("output_text.delta", "output_text.delta", "output_text.delta", "output_text.done"),
        *("content_part.done", "output_item.done", "completed"),
    ]


def test_an_answer_that_is_cut_is_incomplete(api: Api) -> None:
    whole = api.respond("one two three", max_output_tokens=2).json()
    assert (whole["status"], output_text(whole)) == ("incomplete", "one two ")
    assert whole["incomplete_details"] == {"reason": "max_output_tokens"}
    assert whole["output"][0]["status"] == "incomplete"
    assert api.respond_stream("one two three", max_output_tokens=2)[-1]["type"] == (
        "response.incomplete"
    )
    assert api.respond("one two", max_output_tokens=10**9).status_code == 200


def test_logprobs(api: Api) -> None:
    asked = {"include": ["message.output_text.logprobs"]}
    (item,) = api.respond("one two", **asked).json()["output"]
    tokens = item["content"][0]["logprobs"]
    assert [token["token"] for token in tokens] == ["one ", "two"]
    events = api.respond_stream("one two", **asked)
    streamed = [t["token"] for e in events for t in e.get("logprobs", ()) if "delta" in e]
    assert streamed == ["one ", "two"]


def test_reasoning_is_an_item_of_its_own(api: Api) -> None:
    thought, said = api.respond("x", model="thinks", reasoning={"effort": "low"}).json()["output"]
    assert (thought["type"], text_of(thought), thought["summary"]) == ("reasoning", "Hm, one.", [])
    assert text_of(said) == "One."
    events = api.respond_stream("x", model="thinks")
    assert "".join(e["delta"] for e in events if e["type"].endswith("reasoning_text.delta")) == (
        "Hm, one."
    )
    assert events[-1]["response"]["usage"]["output_tokens_details"]["reasoning_tokens"] > 0


@pytest.mark.parametrize("stream", [False, True])
def test_a_round_trip_with_a_tool(api: Api, stream: bool) -> None:
    def turn(items: Any, **fields: Any) -> dict[str, Any]:
        asked = {"model": "calls", "tools": [WEATHER], **fields}
        if stream:
            response: dict[str, Any] = api.respond_stream(items, **asked)[-1]["response"]
            return response
        return dict(api.respond(items, **asked).json())

    first = turn("Weather in Oslo?")
    (call,) = first["output"]
    assert (call["type"], call["name"], call["arguments"]) == (
        "function_call",
        "get_weather",
        '{"city": "Oslo"}',
    )
    assert first["tools"] == [WEATHER]
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": "rain"}
    again = turn([*user("Weather in Oslo?"), *first["output"], result], store=False)
    assert output_text(again) == "It rains."
    assert output_text(turn([result], previous_response_id=first["id"])) == "It rains."


def test_custom_tools_and_those_of_namespaces(api: Api) -> None:
    asked = {"model": "many", "tools": [WEATHER, PATCH, FILES, SEARCH]}
    for response in (
        api.respond("x", **asked).json(),
        api.respond_stream("x", **asked)[-1]["response"],
    ):
        said, call, custom, read = response["output"]
        assert text_of(said).strip() == "Both."
        assert call["name"] == "get_weather"
        assert (custom["type"], custom["name"], custom["input"]) == (
            *("custom_tool_call", "patch", "*** Begin"),
        )
        assert (read["name"], read["namespace"]) == ("read", "files")
        assert response["tools"] == [WEATHER, PATCH, FILES], "the model cannot search the web"
    outputs = [
        {"type": f"{kind}_output", "call_id": item["call_id"], "output": "done"}
        for item in response["output"][1:]
        for kind in [item["type"]]
    ]
    again = api.respond([*user("x"), *response["output"], *outputs], **asked)
    assert output_text(again.json()) == "done"


def test_tools_that_may_not_be_called_are_not(api: Api) -> None:
    asked = {"model": "calls", "tools": [WEATHER, PATCH], "tool_choice": "none"}
    response = api.respond("x", **asked).json()
    assert response["tool_choice"] == "none"
    assert [item["type"] for item in response["output"]] == ["message"]


def test_a_conversation_goes_on(api: Api) -> None:
    first = api.respond("my name is Ada", model="calls").json()
    second = api.respond("who?", model="calls", previous_response_id=first["id"]).json()
    assert second["previous_response_id"] == first["id"]
    assert output_text(second) == "It rains.", "the second thing it says"
    third = api.respond_stream("and?", model="calls", previous_response_id=second["id"])[-1]
    assert output_text(third["response"]) == "and?", "after which it has no more"
    assert third["response"]["usage"]["input_tokens"] > 0


def test_stored_responses_are_there_until_they_are_deleted(api: Api) -> None:
    response = api.respond("one two")
    path = f"{RESPONSES}/{response.json()['id']}"
    assert api.get(path).content == response.content
    assert api.get(path, params={"stream": "false", "include": "x"}).content == response.content
    refused(api.get(path, params={"stream": "true"}), UnsupportedParameter, "stream")
    streamed = api.respond_stream("one two")[-1]["response"]
    assert api.get(f"{RESPONSES}/{streamed['id']}").json() == streamed
    deleted = api.request("DELETE", path)
    assert (deleted.status_code, deleted.json()["deleted"]) == (200, True)
    refused(api.get(path), NoResponse, "response_id")
    refused(api.request("DELETE", path), NoResponse, "response_id")
    asked = {"previous_response_id": response.json()["id"]}
    refused(api.respond("x", **asked), NoPreviousResponse, "previous_response_id")


def test_what_is_not_to_be_stored_is_not(api: Api) -> None:
    response = api.respond("one two", store=False).json()
    refused(api.get(f"{RESPONSES}/{response['id']}"), NoResponse, "response_id")


def test_a_stored_item_may_be_named_by_its_id(api: Api) -> None:
    """As Vercel's AI SDK does with everything that has an id."""
    first = api.respond("Weather?", model="calls", tools=[WEATHER]).json()
    (call,) = first["output"]
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": "rain"}
    asked = {"model": "calls", "tools": [WEATHER]}
    for reference in ({"type": "item_reference", "id": call["id"]}, {"id": call["id"]}):
        second = api.respond([*user("Weather?"), reference, result], **asked).json()
        assert output_text(second) == "It rains."
    # What was named outlives the response that it was of.
    api.request("DELETE", f"{RESPONSES}/{first['id']}")
    third = api.respond("x", previous_response_id=second["id"], **asked)
    assert third.status_code == 200
    gone = {"type": "item_reference", "id": call["id"]}
    refused(api.respond([gone, result], **asked), InvalidRequest, "input[0]")
    refused(api.respond([{"id": "msg_unheard"}]), InvalidRequest, "input[0]")


def test_the_bound_of_the_store() -> None:
    with serving(echo(), response_store_mb=0.02) as api:
        ids = [api.respond(f"number {i} " + "word " * 200).json()["id"] for i in range(12)]
        there = [api.get(f"{RESPONSES}/{one}").status_code == 200 for one in ids]
        assert there == sorted(there), "the oldest are gone"
        assert there[-1]
        assert not there[0]
    with serving(echo(), response_store_mb=0) as api:
        response = api.respond("one").json()
        refused(api.get(f"{RESPONSES}/{response['id']}"), NoResponse, "response_id")
        refused(api.respond("one", store=True), UnsupportedParameter, "store")


def test_each_key_sees_its_own_responses() -> None:
    with serving(echo(), keys=("one", "two")) as api:
        mine = {"authorization": "Bearer one"}
        theirs = {"authorization": "Bearer two"}
        response = api.post(RESPONSES, {"input": "hello"}, headers=mine).json()
        path, item_id = f"{RESPONSES}/{response['id']}", response["output"][0]["id"]
        refused(api.get(path, headers=theirs), NoResponse, "response_id")
        refused(api.request("DELETE", path, headers=theirs), NoResponse, "response_id")
        body = {"input": "x", "previous_response_id": response["id"]}
        refused(
            api.post(RESPONSES, body, headers=theirs), NoPreviousResponse, "previous_response_id"
        )
        reference = {"input": [{"id": item_id}]}
        refused(api.post(RESPONSES, reference, headers=theirs), InvalidRequest, "input[0]")
        assert api.get(path, headers={"x-api-key": "one"}).status_code == 200
        assert api.post(RESPONSES, body, headers=mine).status_code == 200
        store = api.gateway.responses.store
        assert "one" not in store._owners, "not the key itself"


@pytest.mark.parametrize("stream", [True, False])
def test_a_failure_midway_is_told(api: Api, stream: bool) -> None:
    if not stream:
        assert api.respond("one two three", model="fails").status_code == 500
        return
    events = api.respond_stream("one two three", model="fails")
    assert events[-1]["type"] == "response.failed"
    assert events[-1]["response"]["error"]["code"] == "server_error"
    assert output_text(events[-1]["response"]) == "one two "


def test_a_timeout_midway_is_told() -> None:
    with serving(echo(token_s=0.05), inference_timeout_s=0.2) as api:
        events = api.respond_stream("word " * 40)
    assert events[-1]["type"] == "response.failed"
    assert events[-1]["response"]["error"]["type"] == "inference_timeout"


def test_a_prompt_that_is_too_long_names_the_input(api: Api) -> None:
    refused(api.respond("word " * 20, model="small"), PromptTooLong, "input")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"background": True}, "background"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"truncation": "auto"}, "truncation"),
        ({"moderation": {"model": "x"}}, "moderation"),
        ({"context_management": []}, "context_management"),
        ({"service_tier": "flex"}, "service_tier"),
        ({"text": {"verbosity": "high"}}, "text.verbosity"),
        ({"text": {"format": {"type": "json_object"}}}, "text.format"),
        ({"tools": [{"type": "file_search", "vector_store_ids": []}]}, "tools[0]"),
        ({"tools": [{"type": "local_shell"}]}, "tools[0]"),
        ({"tools": [WEATHER], "tool_choice": "required"}, "tool_choice"),
        ({"tools": [WEATHER], "tool_choice": {"type": "web_search"}}, "tool_choice.type"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"input": [{"type": "computer_call"}]}, "input[0]"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
         "input[0].content[0]"),
        ({"input": [{"type": "reasoning", "summary": [], "encrypted_content": "abc"}]},
         "input[0].encrypted_content"),
        ({"stream": True, "stream_options": {"include_obfuscation": True}},
         "stream_options.include_obfuscation"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_by_name(api: Api, fields: Any, param: str) -> None:
    refused(api.post(RESPONSES, {"input": "x", **fields}), UnsupportedParameter, param)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": []}, "input"),
        ({"input": 5}, "input"),
        ({"input": None}, "input"),
        ({"nonsense": 1}, "nonsense"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"temperature": 2.1}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"stream_options": {}}, "stream_options"),
        ({"metadata": {str(i): "x" for i in range(17)}}, "metadata"),
        ({"include": ["everything"]}, "include[0]"),
        ({"input": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]},
         "input[0].content[0]"),
        ({"input": [{"role": "nobody", "content": "x"}]}, "input[0].role"),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]},
         "input[0].call_id"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [WEATHER, WEATHER]}, "tools"),
        ({"tools": [{"type": "function", "name": "a b"}]}, "tools[0].name"),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format.name"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_a_400_that_says_where(api: Api, fields: Any, param: str) -> None:
    refused(api.post(RESPONSES, {"input": "x", **fields}), InvalidRequest, param)


def test_what_codex_sends_is_accepted(api: Api) -> None:
    """The members of its requests, as its sources and its traffic have them."""
    body = {
        "model": "many",
        "instructions": "You are a coding agent.",
        "input": [
            {"type": "message", "role": "developer",
             "content": [{"type": "input_text", "text": "Permissions."}]},
            {"type": "message", "role": "user",
             "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]},
            {"type": "reasoning", "id": "rs_1", "summary": [], "content": None,
             "encrypted_content": None},
        ],
        "tools": [WEATHER, PATCH, FILES, SEARCH],
        "tool_choice": "auto",
        "parallel_tool_calls": False,
        "reasoning": {"effort": "medium", "summary": "auto"},
        "store": False,
        "stream": True,
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "0199",
        "text": {"verbosity": "medium"},
        "client_metadata": {"x-codex-installation-id": "0"},
    }  # fmt: skip
    response = api.post(RESPONSES, body)
    assert response.status_code == 200, response.text
    assert b"event: response.completed\n" in response.content
