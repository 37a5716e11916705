"""The Messages routes of vLLM's server: requests as it takes them, and what its answers lack or
have too much of, by the types of Anthropic's SDK."""

from __future__ import annotations

import json
from typing import Any

from llm_serve.wire import event, to_json

_Json = dict[str, Any]
_EMPTY: _Json = {"type": "text", "text": ""}


def fitted(body: bytes, longest: int) -> bytes:
    """The request, asking for no more than the context of `longest` tokens holds: vLLM refuses what
    is more than the whole of it, and cuts the rest."""
    value: _Json = json.loads(body)
    if value["max_tokens"] <= longest:
        return body
    value["max_tokens"] = longest
    thinking = value.get("thinking")
    if thinking and thinking.get("budget_tokens", 0) >= longest:
        value["thinking"] = {"type": "adaptive"}  # a wish, and vLLM wants it below max_tokens
    return to_json(value)


def tidy_body(value: _Json) -> _Json:
    """A whole message, or a count of tokens."""
    if "content" not in value:
        return {"input_tokens": value["input_tokens"]}
    content = [_signed(block) for block in value["content"]] or [_EMPTY]
    return {**value, "content": content, "stop_sequence": value.get("stop_sequence")}


class MessageEvents:
    """Tidies the events of one stream."""

    def __init__(self) -> None:
        self._blocks = 0

    def tidy(self, value: _Json) -> bytes:
        """One event, with what must stand before it."""
        before = b""
        if value["type"] == "content_block_start":
            self._blocks += 1
            value = {**value, "content_block": _signed(value["content_block"])}
        elif value["type"] == "message_delta" and not self._blocks:
            before = event("content_block_start", {"index": 0, "content_block": _EMPTY})
            before += event("content_block_stop", {"index": 0})
        return before + event(value["type"], value)


def _signed(block: _Json) -> _Json:
    return {**block, "signature": ""} if block == {"type": "thinking", "thinking": ""} else block
