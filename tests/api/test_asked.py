"""What a body asks for, as engines get it: tools, guides, roles; and what vLLM's server is sent."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llm_serve.api.parsing.parse import parse_chat, parse_completion
from llm_serve.config import Config
from llm_serve.sampling import Guide, Tools
from tests.support.client import user

CONFIG = Config.model_validate(
    {"models": [{"id": "ours", "backend": "transformers"}, {"id": "engine", "backend": "vllm"}]}
)
SCHEMA = {"type": "object", "properties": {"a": {"default": None}}}
F: dict[str, Any] = {"name": "f", "description": "F.", "parameters": SCHEMA, "strict": True}
G: dict[str, Any] = {"name": "g"}
TOOLS = [{"type": "function", "function": F}, {"type": "function", "function": G}]
STRICT = [{"type": "function", "function": one | {"strict": True}} for one in (F, G)]
"""A call that is demanded is held to the parameters of all of them."""
NAMED = {"type": "function", "function": {"name": "g"}}
ALLOWED = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [NAMED]}}


def asked(model: str = "ours", **fields: Any) -> Any:
    return parse_chat({"model": model, "messages": user("a"), **fields}, CONFIG)


@pytest.mark.parametrize(
    ("fields", "tools"),
    [
        ({}, Tools((F, G))),
        ({"tool_choice": "auto", "parallel_tool_calls": False}, Tools((F, G), parallel=False)),
        ({"tool_choice": "none"}, Tools((F, G), "none")),
        ({"tool_choice": "required"}, Tools((F, G), "required")),
        ({"tool_choice": NAMED}, Tools((F, G), "named", "g")),
        ({"tool_choice": ALLOWED}, Tools((G,), "required")),
    ],
)
def test_tools_and_their_choice(fields: dict[str, Any], tools: Tools) -> None:
    request = asked(tools=TOOLS, **fields)
    assert request.conversation.tools == tools
    assert (request.kind, request.dialect, request.sampling.guide) == ("chat", "chat", None)


GUIDES: list[tuple[dict[str, Any], Guide]] = [
    ({"response_format": {"type": "json_object"}}, Guide("json_object")),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}}},
        Guide("json_schema", "{}"),
    ),
    ({"structured_outputs": {"json": SCHEMA}}, Guide("json_schema", json.dumps(SCHEMA))),
    ({"structured_outputs": {"json_object": True}}, Guide("json_object")),
    ({"guided_json": SCHEMA}, Guide("json_schema", json.dumps(SCHEMA))),
    ({"guided_json": '{"type": "string"}'}, Guide("json_schema", '{"type": "string"}')),
    ({"guided_regex": "a+"}, Guide("regex", "a+")),
    ({"guided_choice": ["a.b", "(c)"]}, Guide("regex", r"(a\.b)|(\(c\))")),
    ({"guided_grammar": 'root ::= "a"'}, Guide("grammar", 'root ::= "a"')),
]


@pytest.mark.parametrize(("fields", "guide"), GUIDES)
def test_what_the_answer_must_be(fields: dict[str, Any], guide: Guide) -> None:
    for request in (asked(**fields), parse_completion({"prompt": "a", **fields}, CONFIG)):
        found = request.sampling.guide
        assert found.kind == guide.kind
        assert found.text.replace(" ", "") == guide.text.replace(" ", "")
        assert found.param.split(".")[0] == next(iter(fields))


@pytest.mark.parametrize("fields", [{}, {"response_format": {"type": "text"}}])
def test_a_plain_chat_has_no_guide_and_no_tools(fields: dict[str, Any]) -> None:
    for model in ("ours", "engine"):
        request = asked(model, **fields)
        assert request.kind == "chat"
        assert request.sampling.guide is None
        assert request.conversation.tools is None
        assert request.conversation.template == {}


def test_every_role_reaches_the_template() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    turns = [
        {"role": "system", "content": "s", "name": "n"},
        {"role": "developer", "content": [{"type": "text", "text": "d"}]},
        *user("u"),
        {"role": "assistant", "tool_calls": [call | {"index": 0}], "reasoning": "r"},
        {"role": "tool", "tool_call_id": "c", "content": "t"},
        {"role": "assistant", "content": None, "refusal": "no", "annotations": []},
    ]
    assert asked(messages=turns).conversation.messages == (
        {"role": "system", "content": "s", "name": "n"},
        {"role": "developer", "content": "d"},
        {"role": "user", "content": "u"},
        {"role": "assistant", "content": "", "reasoning_content": "r", "tool_calls": [call]},
        {"role": "tool", "content": "t", "tool_call_id": "c"},
        {"role": "assistant", "content": "no"},
    )


@pytest.mark.parametrize(
    ("fields", "variables"),
    [
        ({"chat_template_kwargs": {"thinking": True}}, {"thinking": True}),
        ({"reasoning_effort": "low"}, {"reasoning_effort": "low", "enable_thinking": True}),
        ({"reasoning_effort": "none"}, {"reasoning_effort": "none", "enable_thinking": False}),
        (
            {"reasoning_effort": "none", "chat_template_kwargs": {"enable_thinking": True}},
            {"reasoning_effort": "none", "enable_thinking": True},
        ),
    ],
)
def test_variables_of_the_template(fields: dict[str, Any], variables: dict[str, Any]) -> None:
    assert asked(**fields).conversation.template == variables


@pytest.mark.parametrize(
    ("fields", "sent"),
    [
        ({"guided_json": SCHEMA}, {"structured_outputs": {"json": SCHEMA}, "guided_json": None}),
        ({"guided_choice": ["a"]}, {"structured_outputs": {"choice": ["a"]}}),
        ({"response_format": {"type": "json_object"}}, {"structured_outputs": None}),
        (
            {"tools": TOOLS, "tool_choice": ALLOWED},
            {"tools": [STRICT[1]], "tool_choice": "required"},
        ),
        ({"tools": TOOLS, "tool_choice": NAMED}, {"tools": STRICT, "tool_choice": NAMED}),
        ({"tools": TOOLS, "tool_choice": "required"}, {"tools": STRICT}),
        ({"tools": TOOLS, "tool_choice": "auto"}, {"tools": TOOLS, "tool_choice": "auto"}),
        ({"response_format": {"type": "structural_tag", "format": {}}}, {}),
        ({"structured_outputs": {"structural_tag": "{}"}}, {}),
    ],
)
def test_vllms_server_gets_it_in_its_words(fields: dict[str, Any], sent: dict[str, Any]) -> None:
    request = asked("engine", **fields)
    assert request.kind == "engine"
    body = json.loads(request.body)
    assert {name: body.get(name) for name in sent} == sent
