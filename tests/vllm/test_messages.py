"""vLLM's own Messages on our wire: every answer is held to the types of Anthropic's SDK."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llm_serve.errors import InvalidRequest, PromptTooLong
from tests.support.anthropic_sdk import BASH, call_a_tool, client_of, exercise
from tests.support.anthropic_types import events_of, whole
from tests.support.client import COUNT, MESSAGES, Api, refused, user
from tests.vllm.conftest import ADAPTER, MODEL

pytestmark = pytest.mark.vllm


def _both(api: Api, **fields: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The answer whole and streamed."""
    body = {"model": MODEL, "messages": user("Say hello."), "max_tokens": 8, "temperature": 0}
    body |= fields
    streamed = whole(events_of(api.post(MESSAGES, {**body, "stream": True})))
    return api.post(MESSAGES, body).json(), streamed


def test_the_sdk(api: Api) -> None:
    with client_of(api) as client:
        assert exercise(client, MODEL)


def test_a_text_and_why_it_ends(api: Api) -> None:
    body, streamed = _both(api)
    assert body["content"] == streamed["content"]
    assert body["stop_reason"] == streamed["stop_reason"] == "max_tokens"
    word = body["content"][0]["text"].split()[1]
    for answer in _both(api, stop_sequences=[word]):
        assert (answer["stop_reason"], answer["stop_sequence"]) == ("stop_sequence", word)
    assert _both(api, max_tokens=32000)[0]["usage"]["output_tokens"] > 8
    assert _both(api, model=ADAPTER)[0]["model"] == ADAPTER


@pytest.mark.parametrize(
    "choice", [{"type": "any", "disable_parallel_tool_use": True}, {"type": "tool", "name": "Bash"}]
)
def test_a_call_is_enforced(api: Api, choice: dict[str, Any]) -> None:
    with client_of(api) as client:
        call_a_tool(client, MODEL, choice, extra_body={"temperature": 0})
    for answer in _both(api, tools=[BASH], tool_choice=choice, max_tokens=200):
        assert answer["stop_reason"] == "tool_use"
        assert isinstance(answer["content"][-1]["input"]["command"], str)


def test_a_format_is_obeyed(api: Api) -> None:
    schema = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"]}
    schema["additionalProperties"] = False
    output = {"format": {"type": "json_schema", "schema": schema}}
    for answer in _both(api, output_config=output, max_tokens=40):
        assert json.loads(answer["content"][0]["text"])["a"] in (1, 2)


def test_a_prompt_is_counted(api: Api) -> None:
    asked = {"model": MODEL, "messages": user("Say hello."), "system": "Be brief."}
    counted = api.post(COUNT, asked).json()["input_tokens"]
    usage = api.post(MESSAGES, {**asked, "max_tokens": 1}).json()["usage"]
    assert usage["input_tokens"] + usage.get("cache_read_input_tokens", 0) == counted
    assert api.post(COUNT, {**asked, "tools": [BASH]}).json()["input_tokens"] >= counted


def test_what_is_wrong_is_named(api: Api) -> None:
    body: dict[str, Any] = {"model": MODEL, "max_tokens": 8, "messages": user("a")}
    refused(api.post(MESSAGES, {**body, "zork": 1}), InvalidRequest, "zork")
    said = {"role": "assistant", "content": "b"}
    refused(
        api.post(MESSAGES, {**body, "messages": [*user("a"), said]}), InvalidRequest, "messages"
    )
    long = api.post(MESSAGES, {**body, "messages": user("word " * 2000)})
    assert long.json()["error"]["code"] == PromptTooLong.code
