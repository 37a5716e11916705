"""Anthropic's turns and blocks as chat templates read a conversation, and its tools as functions.

The results of tools are messages of their own there, and turns of one role that follow each other
are one, as at Anthropic.
"""

from __future__ import annotations

from typing import Any

from llm_serve.api.schemas.messages.blocks import (
    AssistantTurn,
    SystemTurn,
    TextBlock,
    ThinkingBlock,
    ToolReferenceBlock,
    ToolResultBlock,
    ToolUseBlock,
    UserTurn,
)
from llm_serve.api.schemas.messages.requests import (
    CountTokensRequest,
    MessagesTool,
    MessagesToolChoice,
)
from llm_serve.generation.messages.signature import reasoning_of
from llm_serve.sampling import Conversation, Tools
from llm_serve.wire import to_json

_Message = dict[str, Any]


def conversation_of(body: CountTokensRequest, template: dict[str, Any]) -> Conversation:
    """The conversation of an edited request; `template` has variables for the template."""
    messages: list[_Message] = []
    """Texts and reasoning are lists of pieces yet, since a turn may have very many."""
    if body.system:
        _last(messages, "system")["content"].append(_text(body.system))
    for turn in body.messages:
        match turn:
            case SystemTurn():
                _last(messages, "system")["content"].append(_text(turn.content))
            case UserTurn():
                _add_user(messages, turn)
            case AssistantTurn():
                _add_assistant(messages, turn)
    for message in messages:
        for member in ("content", "reasoning_content"):
            if isinstance(message.get(member), list):
                message[member] = "\n".join(piece for piece in message[member] if piece)
    return Conversation(tuple(messages), tools_of(body.tools, body.tool_choice), template)


def _add_user(messages: list[_Message], turn: UserTurn) -> None:
    if isinstance(turn.content, str):
        _last(messages, "user")["content"].append(turn.content)
        return
    for block in turn.content:
        match block:
            case TextBlock():
                _last(messages, "user")["content"].append(block.text)
            case ToolResultBlock():
                text = "" if block.content is None else _text(block.content)
                answer = {"role": "tool", "tool_call_id": block.tool_use_id, "content": text}
                messages.append(answer)


def _add_assistant(messages: list[_Message], turn: AssistantTurn) -> None:
    if isinstance(turn.content, str):
        _last(messages, "assistant")["content"].append(turn.content)
        return
    for block in turn.content:
        match block:
            case TextBlock():
                _last(messages, "assistant")["content"].append(block.text)
            case ThinkingBlock():
                reasoning = block.thinking or reasoning_of(block.signature)
                said = _last(messages, "assistant")
                said.setdefault("reasoning_content", []).append(reasoning)
            case ToolUseBlock():
                function = {"name": block.name, "arguments": to_json(block.input).decode()}
                call = {"id": block.id, "type": "function", "function": function}
                _last(messages, "assistant").setdefault("tool_calls", []).append(call)


def _last(messages: list[_Message], role: str) -> _Message:
    """The last message, where it is of this role; else a new one."""
    if not messages or messages[-1]["role"] != role:
        messages.append({"role": role, "content": []})
    return messages[-1]


def _text(content: str | list[Any]) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(
        f"The tool {block.tool_name} may be called now."
        if isinstance(block, ToolReferenceBlock)
        else block.text
        for block in content
    )


def tools_of(tools: list[MessagesTool] | None, choice: MessagesToolChoice | None) -> Tools | None:
    """The tools on offer, and whether one must be used; None where there are none."""
    if not tools:
        return None
    parallel = choice is None or not choice.disable_parallel_tool_use
    functions = tuple(_function(tool) for tool in tools)
    match choice.type if choice else "auto":
        case "any":
            return Tools(functions, "required", None, parallel)
        case "tool":
            assert choice is not None
            return Tools(functions, "named", choice.name, parallel)
        case "none":
            return Tools(functions, "none", None, parallel)
        case _:
            return Tools(functions, "auto", None, parallel)


def _function(tool: MessagesTool) -> dict[str, Any]:
    """The tool as OpenAI describes a function, which has no place for examples."""
    said = [tool.description] if tool.description else []
    said += [f"Example: {to_json(example).decode()}" for example in tool.input_examples or ()]
    function: dict[str, Any] = {"name": tool.name, "parameters": tool.input_schema}
    if said:
        function["description"] = "\n".join(said)
    if tool.strict is not None:
        function["strict"] = tool.strict
    return function
