"""`/v1/responses` by vLLM's own server: its answers and events are told anew, and the client holds
them to the SDK's types. Also the SDK itself."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from llm_serve.errors import NoPreviousResponse, UnsupportedParameter
from tests.support.client import RESPONSES, Api, refused, user
from tests.support.openai_events import text_of
from tests.support.sdk import clients
from tests.support.sdk_responses import WEATHER, exercise_forms, exercise_responses
from tests.vllm.conftest import ADAPTER, MODEL

pytestmark = pytest.mark.vllm
PATCH = {
    "type": "custom",
    "name": "patch",
    "description": "Changes a file.",
    "format": {"type": "grammar", "syntax": "regex", "definition": "a+"},
}
FORCED = {"type": "function", "name": "get_weather"}


def _both(api: Api, text: Any, **fields: Any) -> list[dict[str, Any]]:
    """The whole answer, and the one that a stream ends with."""
    asked = {"temperature": 0, **fields}
    return [api.respond(text, **asked).json(), api.respond_stream(text, **asked)[-1]["response"]]


def _said(response: dict[str, Any]) -> str:
    return "".join(text_of(item) for item in response["output"])


def test_a_text_is_cut_and_counted(api: Api) -> None:
    whole, streamed = _both(api, "Name the four seasons.", max_output_tokens=8)
    assert _said(whole) == _said(streamed) != ""
    for response in (whole, streamed):
        assert response["status"] == "incomplete"
        assert response["usage"]["output_tokens"] == 8
        assert response["usage"]["input_tokens"] > 4
        assert response["model"] == MODEL


def test_logprobs(api: Api) -> None:
    asked = {"include": ["message.output_text.logprobs"], "top_logprobs": 2}
    for response in _both(api, "Say hello.", max_output_tokens=4, **asked):
        tokens = response["output"][0]["content"][0]["logprobs"]
        assert "".join(token["token"] for token in tokens) == _said(response)
        assert all(len(token["top_logprobs"]) == 2 for token in tokens)


@pytest.mark.parametrize("choice", [FORCED, "required"])
def test_a_call_is_forced(api: Api, choice: Any) -> None:
    asked = {"tools": [WEATHER], "tool_choice": choice, "max_output_tokens": 64}
    for response in _both(api, "What is the weather in Oslo?", **asked):
        (call,) = (item for item in response["output"] if item["type"] == "function_call")
        assert call["name"] == "get_weather"
        assert json.loads(call["arguments"])["city"] in ("Paris", "Oslo")
        assert response["tools"] == [WEATHER]
        assert response["tool_choice"] == choice


def test_a_tool_of_a_namespace(api: Api) -> None:
    read = {**WEATHER, "name": "read"}
    files = {"type": "namespace", "name": "files", "description": "Files.", "tools": [read]}
    asked = {"tools": [PATCH, files], "max_output_tokens": 200, "parallel_tool_calls": False}
    choice = {"type": "function", "name": "read"}
    for response in _both(api, "What is the weather in Oslo?", tool_choice=choice, **asked):
        (call,) = (item for item in response["output"] if item["type"] == "function_call")
        assert (call["name"], call["namespace"]) == ("read", "files")


def test_a_conversation_goes_on(api: Api) -> None:
    first = api.respond("My name is Ada.", max_output_tokens=8).json()
    asked = {"previous_response_id": first["id"], "max_output_tokens": 8}
    for response in _both(api, "What is my name?", **asked):
        assert response["previous_response_id"] == first["id"]
        assert response["usage"]["input_tokens"] > first["usage"]["input_tokens"] + 8
    assert api.get(f"{RESPONSES}/{first['id']}").json() == first
    gone = api.respond("x", previous_response_id="resp_0")
    refused(gone, NoPreviousResponse, "previous_response_id")


def test_a_call_and_its_result_are_read(api: Api) -> None:
    call = {"type": "function_call", "call_id": "c", "name": "get_weather", "arguments": "{}"}
    custom = {"type": "custom_tool_call", "call_id": "d", "name": "patch", "input": "a"}
    items = [
        *user("Weather?"),
        {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "h"}]},
        {"role": "assistant", "content": "I will look."},
        call,
        custom,
        {"type": "function_call_output", "call_id": "c", "output": "rain"},
        {"type": "custom_tool_call_output", "call_id": "d", "output": "done"},
    ]
    for response in _both(api, items, tools=[WEATHER, PATCH], max_output_tokens=4):
        assert response["usage"]["output_tokens"] <= 4


def test_the_engines_own_fields_and_an_adapter(api: Api) -> None:
    asked = {"max_output_tokens": 16, "temperature": 0}
    base = api.respond("Say hello.", **asked).json()
    adapted = api.respond("Say hello.", model=ADAPTER, **asked).json()
    assert adapted["model"] == ADAPTER
    assert _said(adapted) != _said(base)
    stopped = api.respond("Say hello.", stop=[_said(base)[4]], **asked).json()
    assert len(_said(stopped)) < len(_said(base))
    assert api.respond("x", nonsense=1).status_code == 400
    refused(api.respond("x", truncation="auto"), UnsupportedParameter, "truncation")
    picture = [{"role": "user", "content": [{"type": "input_image", "image_url": "data:,x"}]}]
    assert api.respond(picture, max_output_tokens=2).status_code == 400, "it reads no pictures"
    assert api.respond("word " * 2000).status_code == 400


def test_the_sdk(api: Api) -> None:
    http = httpx.Client(transport=api.client._transport)
    for client in clients("http://test/v1", http_client=http):
        assert exercise_responses(client, MODEL, "Say hello.")
        exercise_forms(client, MODEL)
