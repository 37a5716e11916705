"""Fields beyond the guide's section 3: null, unknown ones, and those that are refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from llm_serve.errors import InvalidRequest, UnsupportedParameter
from tests.support.client import CHAT, TEXT, Api, refused, user

OPTIONAL = (
    *("model", "stream", "stream_options", "temperature", "top_p", "max_tokens", "stop", "n"),
    *("seed", "presence_penalty", "frequency_penalty", "logit_bias", "top_k", "min_p", "user"),
)
CHAT_OPTIONAL = (
    *("max_completion_tokens", "logprobs", "top_logprobs", "response_format", "modalities"),
    *("metadata", "store", "service_tier", "tools", "tool_choice", "functions"),
    *("reasoning_effort", "prediction", "audio", "web_search_options", "verbosity"),
)
HARMLESS = [
    ("user", "someone"),
    ("metadata", {"team": "a"}),
    ("safety_identifier", "x"),
    ("prompt_cache_key", "x"),
    ("store", False),
    ("service_tier", "auto"),
    ("service_tier", "default"),
    ("response_format", {"type": "text"}),
    ("verbosity", "medium"),
    ("prompt_cache_retention", "24h"),
    ("prediction", {"type": "content", "content": "x"}),
    ("prediction", {"type": "content", "content": [{"type": "text", "text": "x"}]}),
    ("reasoning_effort", "low"),
    ("parallel_tool_calls", True),
    ("tool_choice", "none"),
    ("chat_template_kwargs", {"enable_thinking": False}),
    ("modalities", ["text"]),
    ("stop", []),
    ("stop", ["a", "b", "c", "d"]),
    ("logit_bias", {}),
    ("presence_penalty", 0),
    ("n", 1),
]
REFUSED_BY_NAME = [
    ("functions", [{"name": "f"}], "functions"),
    ("function_call", "auto", "function_call"),
    ("response_format", {"type": "json_object"}, "response_format.type"),
    (
        "response_format",
        {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}},
        "response_format",
    ),
    ("audio", {"voice": "alloy", "format": "wav"}, "audio"),
    ("modalities", ["text", "audio"], "modalities[1]"),
    ("moderation", {}, "moderation"),
    ("web_search_options", {}, "web_search_options"),
    ("store", True, "store"),
    ("store", 0, "store"),
    ("verbosity", "low", "verbosity"),
    ("presence_penalty", 1, "presence_penalty"),
    ("frequency_penalty", -1, "frequency_penalty"),
    ("logit_bias", {"1": 1}, "logit_bias"),
    ("top_k", 5, "top_k"),
    ("min_p", 0.5, "min_p"),
    ("guided_json", {}, "guided_json"),
    ("guided_choice", ["a"], "guided_choice"),
    ("structured_outputs", {"regex": "a"}, "structured_outputs"),
    ("structured_outputs", {"structural_tag": "a"}, "structured_outputs"),
]


@pytest.mark.parametrize("field", [*OPTIONAL, *CHAT_OPTIONAL])
def test_null_means_left_out(api: Api, field: str) -> None:
    response = api.chat(**{field: None})
    assert response.status_code == 200, response.text
    if field in OPTIONAL:
        assert api.complete(**{field: None}).status_code == 200


@pytest.mark.parametrize("field", ["messages", "prompt"])
def test_null_does_not_stand_for_what_is_required(api: Api, field: str) -> None:
    response = api.post(CHAT if field == "messages" else TEXT, {field: None})
    assert refused(response, InvalidRequest, field) == f"{field} is required."


@pytest.mark.parametrize(("field", "value"), HARMLESS)
def test_a_field_without_effect_is_accepted(api: Api, field: str, value: Any) -> None:
    assert api.chat(**{field: value}).status_code == 200


@pytest.mark.parametrize(("field", "value", "param"), REFUSED_BY_NAME)
def test_what_cannot_be_done_is_refused_by_name(
    api: Api, field: str, value: Any, param: str
) -> None:
    response = api.chat(**{field: value})
    assert response.json()["error"]["param"].split(".")[0] == param.split(".")[0]
    refused(response, UnsupportedParameter, response.json()["error"]["param"])
    assert field in response.json()["error"]["message"]


@pytest.mark.parametrize("name", ["temprature", "Model", "prompt", "ignore", "", "a.b", "é" * 300])
def test_an_unknown_field_is_refused(api: Api, name: str) -> None:
    message = refused(api.chat(**{name: 1}), InvalidRequest, name[:200])
    assert message.endswith("is not a known field; leave it out.")


def test_completion_fields_that_chat_does_not_have(api: Api) -> None:
    refused(api.complete(echo=True), UnsupportedParameter, "echo")
    refused(api.complete(best_of=2), UnsupportedParameter, "best_of")
    refused(api.complete(suffix="x"), UnsupportedParameter, "suffix")
    assert api.complete(best_of=2, n=2).status_code == 200
    assert api.complete(echo=False).status_code == 200
    refused(api.complete(logprobs=6), InvalidRequest, "logprobs")
    assert api.complete(logprobs=0).status_code == 200


def test_fields_that_need_another(api: Api) -> None:
    refused(api.chat(top_logprobs=2), InvalidRequest, "top_logprobs")
    refused(api.chat(stream_options={"include_usage": True}), InvalidRequest, "stream_options")
    refused(
        api.chat(stream=True, stream_options={"usage": True}),
        InvalidRequest,
        "stream_options.usage",
    )


@pytest.mark.parametrize(
    ("value", "param"),
    [
        ("", "stop"),
        (["a", "b", "c", "d", "e"], "stop"),
        (["a", ""], "stop[1]"),
        ([1], "stop[0]"),
        (5, "stop"),
        ("x" * 1001, "stop"),
    ],
)
def test_stop_is_up_to_four_texts(api: Api, value: Any, param: str) -> None:
    refused(api.chat(stop=value), InvalidRequest, param)


@pytest.mark.parametrize("value", [0, -1, 129, 1.5, "2", True])
def test_n_is_1_to_128(api: Api, value: Any) -> None:
    refused(api.chat(n=value), InvalidRequest, "n")


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 1.5, "1", True])
def test_seed_is_64_bits(api: Api, value: Any) -> None:
    refused(api.chat(seed=value), InvalidRequest, "seed")
    for border in (2**63 - 1, -(2**63), 0):
        assert api.chat(seed=border, n=2).status_code == 200


MESSAGES: list[tuple[Any, str]] = [
    ([], "messages"),
    ({}, "messages"),
    ("hi", "messages"),
    ([{}], "messages[0].role"),
    (["hi"], "messages[0]"),
    ([None], "messages[0]"),
    ([[]], "messages[0]"),
    ([{"role": "user"}], "messages[0].content"),
    ([{"content": "hi"}], "messages[0].role"),
    ([{"role": "user", "content": None}], "messages[0].content"),
    ([{"role": "user", "content": 1}], "messages[0].content"),
    ([{"role": "user", "content": {}}], "messages[0].content"),
    ([{"role": "user", "content": []}], "messages[0].content"),
    ([{"role": "user", "content": ["a"]}], "messages[0].content[0]"),
    ([{"role": "user", "content": [{"type": "text"}]}], "messages[0].content[0].text"),
    ([{"role": "user", "content": [{"type": "text", "text": 1}]}], "messages[0].content[0].text"),
    ([*user("a"), {"role": "user", "content": "x", "extra": 1}], "messages[1].extra"),
    ([{"role": "user", "content": "x", "name": 1}], "messages[0].name"),
    ([{"role": "user", "content": "x", "tool_calls": []}], "messages[0].tool_calls"),
    ([{"role": "assistant"}], "messages[0].content"),
    ([{"role": "assistant", "tool_calls": []}], "messages[0].content"),
    ([{"role": "assistant", "tool_calls": [{}]}], "messages[0].tool_calls[0].id"),
    ([{"role": "assistant", "content": [{"type": "refusal"}]}], "messages[0].content[0].refusal"),
    ([{"role": "tool", "content": "x"}], "messages[0].tool_call_id"),
    (
        [*user("a"), {"role": "tool", "content": "x", "tool_call_id": "c"}],
        "messages[1].tool_call_id",
    ),
]


@pytest.mark.parametrize(("messages", "param"), MESSAGES)
def test_wrong_messages_are_named_to_the_place(api: Api, messages: Any, param: str) -> None:
    message = refused(api.post(CHAT, {"messages": messages}), InvalidRequest, param)
    assert message.startswith(param)


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
        {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}},
        {"type": "file", "file": {"file_id": "f"}},
        {"type": "video_url", "video_url": {"url": "x"}},
    ],
)
def test_a_part_that_is_no_text_is_refused_by_name(api: Api, part: dict[str, Any]) -> None:
    content = [{"type": "text", "text": "what is this?"}, part]
    response = api.post(CHAT, {"messages": [{"role": "user", "content": content}]})
    message = refused(response, UnsupportedParameter, "messages[0].content[1].type")
    assert "text" in message


def test_parts_of_text_are_joined(api: Api) -> None:
    content = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]
    answer = api.post(CHAT, {"messages": [{"role": "user", "content": content}]}).json()
    assert answer["choices"][0]["message"]["content"] == "one two"


@pytest.mark.parametrize(
    ("prompt", "status"),
    [
        ("a b", 200),
        (["a", "b"], 200),
        ([1, 2], 200),
        ([[1], [2, 3]], 200),
        ([], 400),
        ([[]], 400),
        ([1, "a"], 400),
        ([-1], 400),
        ([2**31], 400),
        (1, 400),
        ({}, 400),
        ([True], 400),
        (["a"] * 129, 400),
    ],
)
def test_a_prompt_is_text_or_token_ids(api: Api, prompt: Any, status: int) -> None:
    response = api.complete(prompt)
    assert response.status_code == status
    if status == 400:
        assert response.json()["error"]["param"].startswith("prompt")
