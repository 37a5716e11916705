"""What Anthropic's SDK makes of the server, the same for every way to reach it: strict validation
of answers, as far as it has that."""

from __future__ import annotations

from typing import Any

import httpx
import httpx2
from anthropic import Anthropic
from anthropic.types import MessageParam, ToolParam, ToolResultBlockParam, ToolUseBlock

from tests.support.client import Api

BASH: ToolParam = {
    "name": "Bash",
    "description": "Runs a command.",
    "input_schema": {
        "type": "object",
        "properties": {"command": {"type": "string"}},
        "required": ["command"],
        "additionalProperties": False,
    },
    "strict": True,  # without it vLLM holds a call to its name alone
}


class _Through(httpx2.BaseTransport):
    """Over the client of a test, whose library is another one."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        answer = self._client.request(
            request.method,
            str(request.url),
            headers=dict(request.headers),
            content=request.read(),
        )
        kept = {k: v for k, v in answer.headers.items() if k != "content-encoding"}
        return httpx2.Response(answer.status_code, headers=kept, content=answer.content)


def client_of(api: Api, **options: Any) -> Anthropic:
    """Anthropic's client; close it."""
    given: dict[str, Any] = {
        "base_url": str(api.client.base_url),
        "api_key": "not-required",
        "max_retries": 0,
        "http_client": httpx2.Client(transport=_Through(api.client)),
        "_strict_response_validation": True,
        **options,
    }
    return Anthropic(**given)


def exercise(client: Anthropic, model: str) -> str:
    """A message whole, streamed and counted; returns the text."""
    asked: dict[str, Any] = {
        "model": model,
        "max_tokens": 16,
        "system": "Be brief.",
        "messages": [{"role": "user", "content": "one two three"}],
        "extra_body": {"temperature": 0},
    }
    message = client.messages.create(**asked)
    (block,) = message.content
    assert block.type == "text"
    with client.messages.stream(**asked) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == block.text
    assert final.stop_reason == message.stop_reason
    assert final.usage.output_tokens == message.usage.output_tokens
    del asked["max_tokens"], asked["extra_body"]
    counted = client.messages.count_tokens(**asked)
    usage = message.usage
    assert counted.input_tokens == usage.input_tokens + (usage.cache_read_input_tokens or 0)
    return text


def call_a_tool(client: Anthropic, model: str, choice: Any = None, **more: Any) -> str:
    """A round trip with a tool, as the SDK documents it; returns what the model says at the end."""
    messages: list[MessageParam] = [{"role": "user", "content": "Call it."}]
    forced = {} if choice is None else {"tool_choice": choice}
    asked: dict[str, Any] = {"model": model, "max_tokens": 100, "tools": [BASH], **more}
    first = client.messages.create(messages=messages, **asked, **forced)
    assert first.stop_reason == "tool_use", first
    (call,) = (block for block in first.content if isinstance(block, ToolUseBlock))
    assert call.name == "Bash"
    assert isinstance(call.input["command"], str)
    messages.append(first.to_param())
    result: ToolResultBlockParam = {
        "type": "tool_result",
        "tool_use_id": call.id,
        "content": "a.txt",
    }
    messages.append({"role": "user", "content": [result]})
    last = client.messages.create(messages=messages, **asked)
    return "".join(block.text for block in last.content if block.type == "text")
