"""What vLLM's answers of the Messages routes lack or have too much of, by the types of Anthropic's
SDK: a member that is required, an answer without a block, a member of a beta."""

from __future__ import annotations

from typing import Any

from llm_serve.wire import event

_Json = dict[str, Any]
_EMPTY: _Json = {"type": "text", "text": ""}


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
