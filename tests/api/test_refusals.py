"""What is said of a wrong body, word for word: one sentence, of one field, named to the place.

A value of several kinds (a text or a list, a format) is judged as the kind that it looks like.
"""

from __future__ import annotations

import re
from typing import Any

import pytest

from llm_serve.api.parsing.parse import parse_chat, parse_completion
from llm_serve.config import Config
from llm_serve.errors import InvalidRequest, UnsupportedParameter
from tests.support.client import user

CONFIG = Config.model_validate(
    {
        "models": [
            {"id": "plain", "backend": "transformers"},
            {"id": "guided", "backend": "tensorrt_llm"},
            {"id": "engine", "backend": "vllm"},
        ]
    }
)
INTEGER = "Input should be a valid integer."
TEXT = "Input should be a valid string."
NEITHER = "Input should be a string or a list."
UNKNOWN = "is not a known field; leave it out."
UNSUPPORTED = "is not supported here; leave it out."
EMPTY = "List should have at least 1 item after validation, not 0."
ROLES = "Input should be 'system', 'developer', 'user', 'assistant' or 'tool'."
CHOICES = "Input should be 'none', 'auto' or 'required'."
FORMATS = "type should be 'text', 'json_object' or 'json_schema'."
SCHEMA = {"name": "a", "schema": {}}
EVERY = ("plain", "guided", "engine")


def _content(content: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}]}


FUNCTION = {"type": "function", "function": {"name": "f"}}


def _turn(**turn: Any) -> dict[str, Any]:
    return {"messages": [*user("a"), turn]}


def _tool(**function: Any) -> dict[str, Any]:
    return {"tools": [{"type": "function", "function": function}]}


def _choice(function: dict[str, Any]) -> dict[str, Any]:
    return {"tools": [FUNCTION], "tool_choice": {"type": "function", "function": function}}


CHATS: list[tuple[tuple[str, ...], dict[str, Any], str]] = [
    (EVERY, {"stop": 5}, f"stop: {NEITHER}"),
    (EVERY, {"stop": {}}, f"stop: {NEITHER}"),
    (EVERY, {"stop": ["a", 1]}, f"stop[1]: {TEXT}"),
    (EVERY, {"stop": ""}, "stop: String should have at least 1 character."),
    (EVERY, {"stop": ["a"] * 5}, "stop: List should have at most 4 items after validation, not 5."),
    (EVERY, {"(text)": 1}, f"(text) {UNKNOWN}"),
    (EVERY, {"metadata": {"stop": 1}}, f"metadata.stop: {TEXT}"),
    (EVERY, {"logit_bias": {"1": 101}}, "logit_bias.1: Input should be less than or equal to 100."),
    (EVERY, {"tools": 1, "n": 0}, "n: Input should be greater than or equal to 1."),
    (EVERY, _content(1), f"messages[0].content: {NEITHER}"),
    (EVERY, _content({}), f"messages[0].content: {NEITHER}"),
    (EVERY, _content([]), f"messages[0].content: {EMPTY}"),
    (EVERY, _content([{}]), "messages[0].content[0].type is required."),
    (EVERY, _content([{"type": "text"}]), "messages[0].content[0].text is required."),
    (EVERY, _content([{"type": "text", "text": 1}]), f"messages[0].content[0].text: {TEXT}"),
    (EVERY, _content([{"type": "a"}]), "messages[0].content[0].type: Input should be 'text'."),
    (
        ("plain",),
        _content([{"type": "image_url"}]),
        "messages[0].content[0].type: image_url is not supported by the transformers backend of "
        "plain, which reads text.",
    ),
    (
        EVERY,
        _content([{"type": "text", "text": "a", "stop": 1}]),
        f"messages[0].content[0].stop {UNKNOWN}",
    ),
    (EVERY, _turn(role="tool", content="a"), "messages[1].tool_call_id is required."),
    (EVERY, _turn(role="boss", content="a"), f"messages[1].role: {ROLES}"),
    (
        EVERY,
        _turn(role="assistant"),
        "messages[1].content is required; only a turn with tool_calls may leave it out.",
    ),
    (
        EVERY,
        _turn(role="tool", content="a", tool_call_id="x"),
        "messages[1].tool_call_id: no turn before it has a call with the id 'x'; send the "
        "assistant's turn with its tool_calls too.",
    ),
    (
        EVERY,
        _turn(role="assistant", tool_calls=[{"id": "x", "type": "function"}]),
        "messages[1].tool_calls[0].function is required.",
    ),
    (
        EVERY,
        _turn(role="assistant", function_call={"name": "f", "arguments": "{}"}),
        "messages[1].function_call is not supported here; use tool_choice and tool_calls.",
    ),
    (EVERY, {"functions": [{"name": "f"}]}, "functions is not supported here; use tools."),
    (EVERY, {"response_format": {"type": "xml"}}, f"response_format: {FORMATS}"),
    (EVERY, {"response_format": {"type": []}}, f"response_format: {FORMATS}"),
    (EVERY, {"response_format": "text"}, f"response_format: {FORMATS}"),
    (
        EVERY,
        {"response_format": {"type": "json_schema"}},
        "response_format.json_schema is required.",
    ),
    (
        EVERY,
        {"response_format": {"type": "json_schema", "json_schema": SCHEMA | {"name": 1}}},
        f"response_format.json_schema.name: {TEXT}",
    ),
    (
        EVERY,
        {"response_format": {"type": "text", "json_schema": SCHEMA}},
        f"response_format.json_schema {UNKNOWN}",
    ),
    (
        ("plain",),
        {"response_format": {"type": "structural_tag"}},
        "response_format.type is not supported by the transformers backend of plain; leave it out. "
        "GET /v1/models/plain lists what is.",
    ),
    (
        EVERY,
        {"response_format": {"type": "json_object"}, "guided_regex": "a"},
        "guided_regex cannot be combined with response_format; send one of them.",
    ),
    (
        EVERY,
        {"structured_outputs": {"json": "{}", "choice": ["a"]}},
        "structured_outputs.choice cannot be combined with structured_outputs.json; send one of "
        "them.",
    ),
    (
        EVERY,
        {"structured_outputs": {}},
        "structured_outputs needs one of json, regex, choice, grammar and json_object.",
    ),
    (EVERY, {"structured_outputs": {"xml": 1}}, f"structured_outputs.xml {UNKNOWN}"),
    (EVERY, {"guided_json": "{"}, "guided_json: It should be a JSON Schema, or its text."),
    (EVERY, {"guided_json": []}, f"guided_json: {TEXT}"),
    (EVERY, {"guided_choice": []}, f"guided_choice: {EMPTY}"),
    (
        EVERY,
        {"chat_template_kwargs": {"tools": []}},
        "chat_template_kwargs: 'tools' is not a variable to set; leave it out.",
    ),
    (EVERY, {"tool_choice": "auto"}, "tool_choice needs tools; send both or neither."),
    (EVERY, {"tool_choice": "x"}, f"tool_choice: {CHOICES}"),
    (EVERY, {"tool_choice": 5}, f"tool_choice: {CHOICES}"),
    (EVERY, {"tool_choice": {}}, "tool_choice.type is required."),
    (EVERY, {"tool_choice": {"type": "function"}}, "tool_choice.function is required."),
    (EVERY, _choice({"name": 1}), f"tool_choice.function.name: {TEXT}"),
    (
        EVERY,
        _choice({"name": "g"}),
        "tool_choice.function.name: no function of tools is named 'g'; there are: f.",
    ),
    (
        EVERY,
        {
            "tools": [FUNCTION],
            "tool_choice": {
                "type": "allowed_tools",
                "allowed_tools": {
                    "mode": "auto",
                    "tools": [{"type": "function", "function": {"name": "g"}}],
                },
            },
        },
        "tool_choice.allowed_tools.tools[0].function.name: no function of tools is named 'g'; "
        "there are: f.",
    ),
    (EVERY, {"tools": []}, f"tools: {EMPTY}"),
    (EVERY, {"tools": [{}]}, "tools[0].type is required."),
    (EVERY, {"tools": [{"type": "custom"}]}, "tools[0].type: Input should be 'function'."),
    (
        EVERY,
        {"tools": [FUNCTION, FUNCTION]},
        "tools[1].function.name: 'f' is there twice; give each function its own name.",
    ),
    (
        EVERY,
        _tool(name="a b"),
        "tools[0].function.name: String should match pattern '^[a-zA-Z0-9_-]{1,64}$'.",
    ),
    (
        EVERY,
        _tool(name="f", parameters={"type": "string"}),
        "tools[0].function.parameters: It should be a JSON Schema of type 'object', or have no "
        "type.",
    ),
]
TEXTS: list[tuple[Any, str]] = [
    (1, f"prompt: {NEITHER}"),
    ({}, f"prompt: {NEITHER}"),
    ([], f"prompt: {EMPTY}"),
    ([[]], f"prompt[0]: {EMPTY}"),
    ([1, "a"], f"prompt[1]: {INTEGER}"),
    (["a", 1], f"prompt[1]: {TEXT}"),
    ([True], f"prompt[0]: {INTEGER}"),
    ([-1], "prompt[0]: Input should be greater than or equal to 0."),
    ([[1], [2, "a"]], f"prompt[1][1]: {INTEGER}"),
    ([[1], 2], "prompt[1]: Input should be a valid list."),
    (["a"] * 129, "prompt: List should have at most 128 items after validation, not 129."),
    ([[1]] * 129, "prompt: List should have at most 128 items after validation, not 129."),
]


def _refusal(error: InvalidRequest, sentence: str) -> None:
    assert error.message == sentence
    named = re.match(r"\S+?(?=:| )", sentence)
    assert named
    assert error.param == named[0]


@pytest.mark.parametrize(
    ("model", "fields", "sentence"),
    [(model, fields, sentence) for models, fields, sentence in CHATS for model in models],
)
def test_a_wrong_chat(model: str, fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_chat({"model": model, "messages": user("a"), **fields}, CONFIG)
    _refusal(caught.value, sentence)
    assert isinstance(caught.value, UnsupportedParameter) == bool(
        "is not supported" in sentence or re.search(r"type: Input should be", sentence)
    )


@pytest.mark.parametrize("model", EVERY)
@pytest.mark.parametrize(("prompt", "sentence"), TEXTS)
def test_a_wrong_prompt(model: str, prompt: Any, sentence: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_completion({"model": model, "prompt": prompt}, CONFIG)
    _refusal(caught.value, sentence)
