"""What a body of `/v1/responses` becomes: the turns that a template reads, functions, sampling."""

from __future__ import annotations

import json
from typing import Any

from llm_serve.api.parsing.responses import check_response, response_job
from llm_serve.config import Config
from llm_serve.generation.request import GenerationRequest
from llm_serve.sampling import Guide, Tools
from tests.api.test_responses import FILES, PATCH, SEARCH, WEATHER

MODELS = [
    {"id": "small", "source": "/nowhere", "defaults": {"max_tokens": 7}},
    {"id": "fast", "source": "/nowhere", "backend": "vllm"},
]
CONFIG = Config.model_validate({"models": MODELS})
CALL = {"type": "function_call", "call_id": "c", "name": "get_weather", "arguments": "{}"}
RESULT = {"type": "function_call_output", "call_id": "c", "output": "rain"}


def thought(text: str) -> dict[str, Any]:
    content = [{"type": "reasoning_text", "text": text}]
    return {"type": "reasoning", "id": "rs_1", "summary": [], "content": content}


def said(text: str) -> dict[str, Any]:
    content = [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}]
    return {"type": "message", "id": "msg_1", "role": "assistant", "content": content}


def job(asked: Any, *earlier: dict[str, Any], **fields: Any) -> GenerationRequest:
    return response_job(check_response({"input": asked, **fields}, CONFIG), earlier, {})


def turns(*items: dict[str, Any], **fields: Any) -> list[dict[str, Any]]:
    conversation = job(list(items), **fields).conversation
    assert conversation is not None
    return list(conversation.messages)


def test_instructions_come_first() -> None:
    items = (
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": [{"type": "input_text", "text": t} for t in ("a", "b")]},
        {"role": "system", "content": "And quick."},
    )
    assert turns(*items, instructions="Be brief.") == [
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": "ab"},
        {"role": "system", "content": "And quick."},
    ]
    assert turns(*items)[0] == {"role": "developer", "content": "Be kind."}


def test_what_the_model_did_in_a_row_is_one_turn() -> None:
    custom = {"type": "custom_tool_call", "call_id": "d", "name": "patch", "input": "a\n"}
    read = {**CALL, "call_id": "e", "name": "read", "namespace": "files"}
    items = (
        thought("Hm."), said("I look."), CALL, custom, read,
        RESULT, {"type": "custom_tool_call_output", "call_id": "d", "output": "done"},
        thought("So."), said("Rain."), said("Yes."), thought("Again."), {**CALL, "call_id": "f"},
    )  # fmt: skip
    functions = [
        ("c", "get_weather", "{}"), ("d", "patch", '{"input": "a\\n"}'), ("e", "files__read", "{}"),
    ]  # fmt: skip
    calls = [
        {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
        for call_id, name, arguments in functions
    ]
    last = {"id": "f", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
    first = {"role": "assistant", "content": "I look.", "reasoning_content": "Hm."}
    assert turns(*items) == [
        {**first, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "c", "content": "rain"},
        {"role": "tool", "tool_call_id": "d", "content": "done"},
        {"role": "assistant", "content": "Rain.", "reasoning_content": "So."},
        {"role": "assistant", "content": "Yes."},
        {"role": "assistant", "content": "", "reasoning_content": "Again.", "tool_calls": [last]},
    ]  # fmt: skip


def test_a_conversation_that_goes_on_has_its_items_first() -> None:
    request = job([RESULT], {"role": "user", "content": "?"}, CALL, instructions="New.")
    assert request.conversation is not None
    roles = [turn["role"] for turn in request.conversation.messages]
    assert roles == ["system", "user", "assistant", "tool"]


def test_tools_are_functions() -> None:
    tools = [WEATHER, PATCH, FILES, SEARCH]
    request = job("x", tools=tools, parallel_tool_calls=False)
    assert request.conversation is not None
    assert request.conversation.tools is not None
    weather, patch, read = request.conversation.tools.functions
    assert weather == {k: v for k, v in WEATHER.items() if k != "type"}
    assert patch["parameters"]["required"] == ["input"]
    assert "start: /.+/" in patch["description"]
    assert read["name"] == "files__read"
    assert not request.conversation.tools.parallel
    assert request.echo["tools"] == [WEATHER, PATCH, FILES]

    def chosen(choice: Any) -> Tools:
        conversation = job("x", tools=tools, tool_choice=choice).conversation
        assert conversation is not None
        assert conversation.tools is not None
        return conversation.tools

    assert chosen("required").choice == "required"
    named = chosen({"type": "function", "name": "read"})
    assert (named.choice, named.name) == ("named", "files__read")
    assert chosen({"type": "custom", "name": "patch"}).name == "patch"
    some = [{"type": "custom", "name": "patch"}, {"type": "function", "name": "files__read"}]
    allowed = chosen({"type": "allowed_tools", "mode": "required", "tools": some})
    assert allowed.choice == "required"
    assert [function["name"] for function in allowed.functions] == ["patch", "files__read"]


def test_sampling_is_as_asked_or_as_the_models_defaults() -> None:
    plain = job("x").sampling
    assert (plain.max_tokens, plain.logprobs, plain.guide, plain.final_only) == (
        7,
        None,
        None,
        True,
    )
    schema = {"type": "object"}
    text = {"format": {"type": "json_schema", "name": "x", "schema": schema}}
    asked = {"max_output_tokens": 10**6, "top_logprobs": 3, "temperature": 0, "stream": True}
    request = job("x", text=text, reasoning={"effort": "none"}, **asked)
    sampling = request.sampling
    assert (sampling.max_tokens, sampling.logprobs, sampling.final_only) == (10**6, 3, False)
    assert sampling.guide is not None
    assert (sampling.guide.kind, json.loads(sampling.guide.text)) == ("json_schema", schema)
    assert request.conversation is not None
    assert request.conversation.template == {"reasoning_effort": "none", "enable_thinking": False}
    json_only = job("x", text={"format": {"type": "json_object"}}).sampling.guide
    assert isinstance(json_only, Guide)
    assert json_only.kind == "json_object"


def test_an_engine_with_a_server_of_its_own_gets_all_in_one_body() -> None:
    picture = {"role": "user", "content": [{"type": "input_image", "image_url": "data:,"}]}
    earlier = ({"role": "user", "content": "?"}, said("!"))
    request = job(
        [picture], *earlier, model="fast", tools=[PATCH, SEARCH], previous_response_id="resp_1",
        tool_choice={"type": "custom", "name": "patch"}, top_k=3,
        include=["reasoning.encrypted_content"],
    )  # fmt: skip
    assert (request.kind, request.path, request.conversation) == ("engine", "/v1/responses", None)
    sent = json.loads(request.body)
    assert [item["role"] for item in sent["input"]] == ["user", "assistant", "user"]
    assert sent["input"][2] == picture
    assert (sent["store"], sent["top_k"], sent["request_id"]) == (False, 3, request.id)
    assert sent["tool_choice"] == {"type": "function", "name": "patch"}
    assert [tool["type"] for tool in sent["tools"]] == ["function"]
    assert not sent.keys() & {"previous_response_id", "include", "truncation", "metadata"}
