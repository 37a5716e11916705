"""Functions and calls for models whose template knows none: as text, in Hermes's words."""

from __future__ import annotations

import json
from typing import Any

Message = dict[str, Any]

_TOOLS = """# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{functions}
</tools>

For each function call, return a json object with function name and arguments within \
<tool_call></tool_call> XML tags:
<tool_call>
{{"name": <function-name>, "arguments": <args-json-object>}}
</tool_call>"""
"""How Hermes and Qwen are told of functions."""


def told_of(functions: str) -> str:
    """What the system message says of functions, which are JSON texts, one a line."""
    return _TOOLS.format(functions=functions)


def plainly(messages: list[Message], tools: list[dict[str, Any]]) -> list[Message]:
    """The messages with the functions in the system message, calls as text of the assistant, and
    results as turns of the user."""
    plain: list[Message] = []
    results: list[str] = []

    def answered() -> None:
        if results:
            plain.append({"role": "user", "content": "\n".join(results)})
            results.clear()

    for message in messages:
        if message["role"] == "tool":
            results.append(f"<tool_response>\n{message['content']}\n</tool_response>")
            continue
        answered()
        plain.append(_written(message))
    answered()
    if not tools:
        return plain
    functions = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    told = told_of(functions)
    if plain and plain[0]["role"] == "system":
        first = plain[0]
        told = f"{first['content']}\n\n{told}" if first["content"] else told
        return [{**first, "content": told}, *plain[1:]]
    return [{"role": "system", "content": told}, *plain]


def _written(message: Message) -> Message:
    """The message with its calls in its text."""
    if "tool_calls" not in message:
        return message
    texts = [message["content"]] if message["content"] else []
    for call in message["tool_calls"]:
        function = call["function"]
        written = {"name": function["name"], "arguments": function.get("arguments", {})}
        texts.append(f"<tool_call>\n{json.dumps(written, ensure_ascii=False)}\n</tool_call>")
    others = {key: value for key, value in message.items() if key != "tool_calls"}
    return {**others, "content": "\n".join(texts)}
