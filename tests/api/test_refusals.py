"""What is said of a wrong body, word for word: one sentence, of one field, named to the place.

A value of several kinds (a text or a list, a format) is judged as the kind that it looks like.
"""

from __future__ import annotations

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
FORMATS = "type should be 'text', 'json_object' or 'json_schema'."
SCHEMA = {"name": "a", "schema": {}}
EVERY = ("plain", "guided", "engine")


def _content(content: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}]}


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
    (("plain",), _content([{"type": "text"}]), "messages[0].content[0].text is required."),
    (("plain",), _content([{"type": "text", "text": 1}]), f"messages[0].content[0].text: {TEXT}"),
    (("plain",), _content([{"type": "a"}]), "messages[0].content[0].type: Input should be 'text'."),
    (
        ("plain",),
        _content([{"type": "text", "text": "a", "stop": 1}]),
        f"messages[0].content[0].stop {UNKNOWN}",
    ),
    (("plain", "guided"), {"tool_choice": "auto"}, f"tool_choice {UNSUPPORTED}"),
    (
        ("plain",),
        {"response_format": {"type": "json_object"}},
        "response_format.type: Input should be 'text'.",
    ),
    (("guided",), {"response_format": {"type": "xml"}}, f"response_format: {FORMATS}"),
    (("guided",), {"response_format": {"type": []}}, f"response_format: {FORMATS}"),
    (("guided",), {"response_format": "text"}, f"response_format: {FORMATS}"),
    (
        ("guided",),
        {"response_format": {"type": "json_schema"}},
        "response_format.json_schema is required.",
    ),
    (
        ("guided",),
        {"response_format": {"type": "json_schema", "json_schema": SCHEMA | {"name": 1}}},
        f"response_format.json_schema.name: {TEXT}",
    ),
    (
        ("guided",),
        {"response_format": {"type": "text", "json_schema": SCHEMA}},
        f"response_format.json_schema {UNSUPPORTED}",
    ),
    (
        ("engine",),
        {"response_format": {"type": "xml"}},
        "response_format.type: Input should be 'text', 'json_object', 'json_schema' or "
        "'structural_tag'.",
    ),
    (
        ("engine",),
        {"tool_choice": "x"},
        "tool_choice: Input should be 'none', 'auto' or 'required'.",
    ),
    (("engine",), {"tool_choice": 5}, "tool_choice: Input should be 'none', 'auto' or 'required'."),
    (("engine",), {"tool_choice": {}}, "tool_choice.type is required."),
    (
        ("engine",),
        {"tool_choice": {"type": "function"}},
        "tool_choice.function is required.",
    ),
    (
        ("engine",),
        {"tool_choice": {"type": "function", "function": {"name": 1}}},
        f"tool_choice.function.name: {TEXT}",
    ),
    (("engine",), {"tools": [{}]}, "tools[0].type is required."),
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
    assert error.param == sentence.partition(":")[0].split(" is ")[0].split(" is not ")[0]


@pytest.mark.parametrize(
    ("model", "fields", "sentence"),
    [(model, fields, sentence) for models, fields, sentence in CHATS for model in models],
)
def test_a_wrong_chat(model: str, fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_chat({"model": model, "messages": user("a"), **fields}, CONFIG)
    _refusal(caught.value, sentence)
    assert isinstance(caught.value, UnsupportedParameter) == (
        sentence.startswith(("tool", "response_format")) or "'text'." in sentence
    )


@pytest.mark.parametrize("model", EVERY)
@pytest.mark.parametrize(("prompt", "sentence"), TEXTS)
def test_a_wrong_prompt(model: str, prompt: Any, sentence: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_completion({"model": model, "prompt": prompt}, CONFIG)
    _refusal(caught.value, sentence)
