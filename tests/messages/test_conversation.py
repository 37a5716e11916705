"""What the model is shown of a Messages request: turns, tools, and how it is told to reason."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llm_serve.api.parsing.messages.parse import parse_count, parse_messages
from llm_serve.config import Config
from llm_serve.errors import InvalidRequest
from llm_serve.generation.messages.signature import signature_of
from llm_serve.generation.request import GenerationRequest
from llm_serve.sampling import Conversation, Guide, Tools
from tests.messages.conftest import BASH
from tests.support.client import user

CONFIG = Config.model_validate(
    {"models": [{"id": "t", "backend": "transformers"}, {"id": "v", "backend": "vllm"}]}
)
SEARCH = {"name": "Search", "input_schema": {"type": "object"}, "defer_loading": True}
USE = {"type": "tool_use", "id": "t1", "name": "Bash", "input": {"command": "ls"}}
OFF = {"enable_thinking": False, "thinking": False}
ON = {"enable_thinking": True, "thinking": True}


def _parse(model: str = "t", beta: bool = False, **fields: Any) -> GenerationRequest:
    body = {"model": model, "max_tokens": 9000, "messages": user("hi"), **fields}
    return parse_messages(body, CONFIG, beta)


def _conversation(**fields: Any) -> Conversation:
    conversation = _parse(**fields).conversation
    assert conversation is not None
    return conversation


def _offered(messages: list[Any], tools: list[Any]) -> list[str]:
    offered = _conversation(messages=messages, tools=tools).tools
    return [] if offered is None else [function["name"] for function in offered.functions]


def _result(content: Any, **more: Any) -> dict[str, Any]:
    block = {"type": "tool_result", "tool_use_id": "t1", "content": content, **more}
    return {"role": "user", "content": [block]}


def test_turns_and_blocks_are_what_templates_read() -> None:
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "x"}
    text = {"type": "text", "text": "Looking."}
    result: Any = _result([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])
    result["content"].append({"type": "text", "text": "Go on."})
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "text", "text": "y"}]},
        {"role": "user", "content": "z"},
        {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
        {"role": "assistant", "content": [thought, text, USE]},
        result,
    ]
    system = [
        {"type": "text", "text": "x-anthropic-billing-header: cc_version=1;"},
        {"type": "text", "text": "You help.", "cache_control": {"type": "ephemeral"}},
    ]
    function = {"name": "Bash", "arguments": '{"command":"ls"}'}
    call = {"id": "t1", "type": "function", "function": function}
    assert _conversation(messages=messages, system=system).messages == (
        {"role": "system", "content": "You help."},
        {"role": "user", "content": "x\ny\nz"},
        {"role": "system", "content": "Be brief."},
        {
            "role": "assistant",
            "content": "Looking.",
            "reasoning_content": "Hm.",
            "tool_calls": [call],
        },
        {"role": "tool", "tool_call_id": "t1", "content": "a\nb"},
        {"role": "user", "content": "Go on."},
    )


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (_result("done"), "done"),
        (_result("no such file", is_error=True), "Error: no such file"),
        (_result([{"type": "text", "text": "no"}], is_error=True), "Error:\nno"),
        (_result(None, is_error=True), "Error"),
        (_result(None), ""),
        (
            _result([{"type": "tool_reference", "tool_name": "Bash"}]),
            "The tool Bash may be called now.",
        ),
    ],
)
def test_results_of_tools(result: dict[str, Any], text: str) -> None:
    messages = [*user("a"), {"role": "assistant", "content": [USE]}, result]
    assert _conversation(messages=messages, tools=[BASH]).messages[-1]["content"] == text


@pytest.mark.parametrize(
    ("block", "reasoning"),
    [
        ({"type": "thinking", "thinking": "Hm.", "signature": "another server's"}, "Hm."),
        ({"type": "thinking", "thinking": "", "signature": signature_of("Hm.")}, "Hm."),
        ({"type": "thinking", "thinking": "", "signature": "another server's"}, ""),
        ({"type": "redacted_thinking", "data": "abc"}, None),
    ],
)
def test_reasoning_of_former_turns(block: dict[str, Any], reasoning: str | None) -> None:
    said = {"role": "assistant", "content": [block, {"type": "text", "text": "So."}]}
    turn = _conversation(messages=[*user("a"), said, *user("b")]).messages[1]
    assert turn.get("reasoning_content") == reasoning
    assert turn["content"] == "So."


@pytest.mark.parametrize(
    ("keep", "kept"),
    [
        ({}, [False, True]),
        ({"keep": "all"}, [True, True]),
        ({"keep": {"type": "all"}}, [True, True]),
        ({"keep": {"type": "thinking_turns", "value": 2}}, [True, True]),
        ({"keep": {"type": "thinking_turns", "value": 1}}, [False, True]),
    ],
)
def test_older_reasoning_is_cleared(keep: dict[str, Any], kept: list[bool]) -> None:
    thought = [{"type": "thinking", "thinking": "Hm.", "signature": ""}, USE]
    turns = [
        *user("a"),
        {"role": "assistant", "content": thought},
        _result("b"),
        {"role": "assistant", "content": thought},
        _result("c"),
    ]
    edits = {"edits": [{"type": "clear_thinking_20251015", **keep}]}
    said = _conversation(messages=turns, context_management=edits).messages
    assert ["reasoning_content" in m for m in said if m["role"] == "assistant"] == kept


def test_deferred_tools_are_offered_once_they_were_found() -> None:
    tools, searched = [BASH, SEARCH], {"role": "assistant", "content": [USE]}
    found = _result([{"type": "tool_reference", "tool_name": "Search"}])
    named = {"type": "tool_reference", "name": "Search"}
    added = {"role": "system", "content": [{"type": "tool_addition", "tool": named}]}
    removed = {"role": "system", "content": [{"type": "tool_removal", "tool": named}]}
    assert _offered(user("a"), tools) == ["Bash"]
    assert _offered(user("a"), [SEARCH]) == []
    assert _offered([*user("a"), searched, found], tools) == ["Bash", "Search"]
    assert _offered([*user("a"), added], tools) == ["Bash", "Search"]
    assert _offered([*user("a"), added, removed], tools) == ["Bash"]
    assert _conversation(messages=[*user("a"), added], tools=tools).messages[-1]["role"] == "user"
    with pytest.raises(InvalidRequest) as unknown:
        _offered([*user("a"), added], [BASH])
    assert unknown.value.param == "messages[1].content[0].tool.name"


def test_instructions_for_one_turn() -> None:
    once = {"role": "system", "content": "Now.", "clear_at": "next_user_message"}
    assert len(_conversation(messages=[*user("a"), once]).messages) == 2
    said = {"role": "assistant", "content": "b"}
    messages = _conversation(messages=[*user("a"), once, said, *user("c")]).messages
    assert "system" not in [message["role"] for message in messages]


@pytest.mark.parametrize(
    ("choice", "tools"),
    [
        (None, Tools((), "auto")),
        ({"type": "auto", "disable_parallel_tool_use": True}, Tools((), "auto", None, False)),
        ({"type": "any"}, Tools((), "required")),
        ({"type": "tool", "name": "Bash"}, Tools((), "named", "Bash")),
        ({"type": "none"}, Tools((), "none")),
    ],
)
def test_whether_a_tool_must_be_called(choice: dict[str, Any] | None, tools: Tools) -> None:
    asked = {} if choice is None else {"tool_choice": choice}
    given = _conversation(tools=[BASH], **asked).tools
    assert given is not None
    assert (given.choice, given.name, given.parallel) == (tools.choice, tools.name, tools.parallel)


def test_a_tool_is_a_function() -> None:
    tool = {**BASH, "strict": True, "input_examples": [{"command": "ls"}], "type": "custom"}
    given = _conversation(tools=[tool]).tools
    assert given is not None
    assert given.functions == (
        {
            "name": "Bash",
            "description": 'Runs a command.\nExample: {"command":"ls"}',
            "parameters": BASH["input_schema"],
            "strict": True,
        },
    )


@pytest.mark.parametrize(
    ("thinking", "template", "shown"),
    [
        (None, OFF, "hidden"),
        ({"type": "disabled"}, OFF, "hidden"),
        ({"type": "enabled", "budget_tokens": 1024}, ON, "shown"),
        ({"type": "adaptive"}, {}, "shown"),
        ({"type": "adaptive", "display": "omitted"}, {}, "omitted"),
        ({"type": "between_tools"}, OFF, "hidden"),
    ],
)
def test_thinking_is_a_word_to_the_template(
    thinking: dict[str, Any] | None, template: dict[str, Any], shown: str
) -> None:
    asked = {} if thinking is None else {"thinking": thinking}
    request = _parse(output_config={"effort": "low"}, **asked)
    assert request.conversation is not None
    assert request.conversation.template == {**template, "reasoning_effort": "low"}
    assert request.echo == {"thinking": shown}


def test_thinking_between_tools() -> None:
    turns = [*user("a"), {"role": "assistant", "content": [USE]}, _result("b")]
    request = _parse(messages=turns, thinking={"type": "between_tools"})
    assert request.conversation is not None
    assert (request.conversation.template, request.echo) == (ON, {"thinking": "shown"})


def test_sampling() -> None:
    schema = {"type": "object"}
    fields = {"temperature": 0, "top_p": 0.5, "top_k": 3, "stop_sequences": ["a", "b"]}
    sampling = _parse(**fields, output_config={"format": {"type": "json_schema", "schema": schema}})
    assert sampling.sampling.guide == Guide(
        "json_schema", '{"type":"object"}', param="output_config.format"
    )
    assert (sampling.sampling.temperature, sampling.sampling.top_p) == (0, 0.5)
    assert (sampling.sampling.top_k, sampling.sampling.stop) == (3, ("a", "b"))
    assert sampling.sampling.max_tokens == 9000


def test_a_last_turn_of_the_assistant_is_continued() -> None:
    said = {"role": "assistant", "content": [{"type": "text", "text": "I will"}]}
    conversation = _conversation(messages=[*user("a"), said])
    assert conversation.ending == "continued"
    assert _conversation(messages=[*user("a"), said, *user("b")]).ending == "begun"
    form = {"type": "json_schema", "schema": {}}
    for refusal in ({"model": "v"}, {"output_config": {"format": form}}):
        with pytest.raises(InvalidRequest):
            _parse(messages=[*user("a"), said], **refusal)


def test_counting_has_the_same_conversation() -> None:
    fields = {"model": "t", "messages": user("a"), "system": "b", "tools": [BASH]}
    counted = parse_count(fields, CONFIG)
    assert counted.kind == "tokenize"
    assert counted.conversation == _conversation(**fields)


def test_the_engines_own_server_gets_what_was_read() -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": ""}}
    schema = {"type": "json_schema", "schema": {"type": "object"}}
    request = _parse(
        "v",
        beta=True,
        messages=[{"role": "user", "content": [{**image, "zork": 1}]}],
        tools=[BASH, SEARCH],
        system=[{"type": "text", "text": "x-anthropic-billing-header: 1"}],
        output_format=schema,
        context_management={"edits": []},
        service_tier="auto",
        chat_template_kwargs={"a": 1},
        zork=1,
    )
    assert (request.kind, request.path) == ("engine", "/v1/messages")
    assert json.loads(request.body) == {
        "model": "v",
        "max_tokens": 9000,
        "messages": [{"role": "user", "content": [image]}],
        "tools": [BASH],
        "system": [],
        "output_config": {"format": schema},
        "thinking": {"type": "disabled"},
        "chat_template_kwargs": {"a": 1},
        "temperature": 1.0,
        "top_p": 1.0,
    }


CLAUDE_CODE: dict[str, Any] = {
    "model": "t",
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "<system-reminder>a"}]},
        {"role": "system", "content": [{"type": "text", "text": "# Environment"}]},
        {"role": "assistant", "content": [USE]},
        _result("42", is_error=False, cache_control={"type": "ephemeral"}),
    ],
    "system": [
        {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.332.9ea;"},
        {"type": "text", "text": "You are an agent.", "cache_control": {"type": "ephemeral"}},
    ],
    "tools": [BASH, SEARCH],
    "metadata": {"user_id": "{}"},
    "max_tokens": 32000,
    "thinking": {"type": "adaptive", "display": "omitted"},
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    "output_config": {"effort": "high"},
    "stream": True,
}
"""The shape of what Claude Code 2.1.332 sends, its second request of a round trip."""


@pytest.mark.parametrize("model", ["t", "v"])
def test_claude_code_is_understood(model: str) -> None:
    request = parse_messages({**CLAUDE_CODE, "model": model}, CONFIG, beta=True)
    assert request.stream
    assert request.sampling.max_tokens == 32000
    if model == "t":
        assert request.conversation is not None
        roles = [message["role"] for message in request.conversation.messages]
        assert roles == ["system", "user", "system", "assistant", "tool"]
    else:
        assert "context_management" not in json.loads(request.body)
