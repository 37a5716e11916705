"""From typed deltas to Anthropic's Messages: the events of a stream, or the whole message.

An answer is a list of blocks, reasoning, text and calls of tools, in the order in which they were
generated. In a stream one block is open at a time, and every delta belongs to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic_core import from_json

from llm_serve.errors import ServeError
from llm_serve.generation.messages.signature import SHOWN, signature_of
from llm_serve.generation.request import GenerationRequest
from llm_serve.sampling import CallDelta, Delta
from llm_serve.wire import error_frame, event, to_json

_Json = dict[str, Any]


class MessagesRenderer:
    """The renderer of `/v1/messages`, which has one answer."""

    def __init__(self, request: GenerationRequest, prompt_tokens: int, answers: int) -> None:
        self.request = request
        self.prompt_tokens = prompt_tokens
        self.completion_tokens = 0
        self.cached_tokens: int | None = None
        self._thinking: str = request.echo["thinking"]
        """`shown`, `omitted` (its text is in the signature alone) or `hidden`."""
        self._blocks: list[_Json] = []
        """The finished blocks and the open one, as the whole message has them."""
        self._pieces: list[str] = []
        """Of the open block: text, reasoning or arguments."""
        self._open = False
        self._call: int | None = None
        """The index of the call that is open."""
        self._called = False
        """Whether the last call is whole."""
        self._last: Delta | None = None

    def begin(self) -> bytes:
        message = {**self._message(), "stop_reason": None, "stop_sequence": None}
        message["content"] = []
        return event("message_start", {"message": message}) + event("ping", {})

    def chunk(self, index: int, delta: Delta) -> bytes:
        return b"".join(event(name, value) for name, value in self._taken(delta))

    def end(self) -> bytes:
        reason, sequence = self._stopped()
        ended = {
            "delta": {"stop_reason": reason, "stop_sequence": sequence},
            "usage": self._usage(),
        }
        return event("message_delta", ended) + event("message_stop", {})

    def failed(self, error: ServeError) -> bytes:
        return error_frame(error, self.request.path)

    def add(self, index: int, delta: Delta) -> None:
        for _ in self._taken(delta):
            pass

    def body(self) -> bytes:
        reason, sequence = self._stopped()
        return to_json({**self._message(), "stop_reason": reason, "stop_sequence": sequence})

    def _taken(self, delta: Delta) -> Iterator[tuple[str, _Json]]:
        """The events of one delta, their names first."""
        self.completion_tokens += delta.tokens
        if delta.cached_tokens is not None:
            self.cached_tokens = delta.cached_tokens
        self._last = delta
        if delta.reasoning and self._thinking != "hidden":
            yield from self._in_block("thinking", {"thinking": "", "signature": ""})
            self._pieces.append(delta.reasoning)
            if self._thinking == "shown":
                yield self._delta("thinking_delta", "thinking", delta.reasoning)
        if delta.text:
            yield from self._in_block("text", {"text": ""})
            self._pieces.append(delta.text)
            yield self._delta("text_delta", "text", delta.text)
        for call in delta.calls:
            yield from self._in_call(call)
        if delta.finish_reason is not None:
            if not self._blocks:  # many a client reads the first block unasked
                yield from self._in_block("text", {"text": ""})
            yield from self._close()

    def _in_block(self, kind: str, empty: _Json) -> Iterator[tuple[str, _Json]]:
        """Opens a block of the kind, unless one is open."""
        if self._open and self._blocks[-1]["type"] == kind and self._call is None:
            return
        yield from self._close()
        self._open = True
        self._blocks.append({"type": kind, **empty})
        started = {"index": len(self._blocks) - 1, "content_block": {"type": kind, **empty}}
        yield "content_block_start", started

    def _in_call(self, call: CallDelta) -> Iterator[tuple[str, _Json]]:
        if call.index != self._call:
            yield from self._close()
            yield from self._in_block("tool_use", {"id": call.id, "name": call.name, "input": {}})
            self._call = call.index
        if call.arguments:
            self._pieces.append(call.arguments)
            yield self._delta("input_json_delta", "partial_json", call.arguments)

    def _delta(self, kind: str, member: str, piece: str) -> tuple[str, _Json]:
        delta = {"type": kind, member: piece}
        return "content_block_delta", {"index": len(self._blocks) - 1, "delta": delta}

    def _close(self) -> Iterator[tuple[str, _Json]]:
        """Ends the open block, if there is one."""
        if not self._open:
            return
        block, said = self._blocks[-1], "".join(self._pieces)
        if block["type"] == "tool_use":
            block["input"], self._called = _arguments(said)
        elif block["type"] == "text":
            block["text"] = said
        else:
            shown = self._thinking == "shown"
            block["thinking"] = said if shown else ""
            block["signature"] = SHOWN if shown else signature_of(said)
            yield self._delta("signature_delta", "signature", block["signature"])
        yield "content_block_stop", {"index": len(self._blocks) - 1}
        self._open, self._call = False, None
        self._pieces.clear()

    def _stopped(self) -> tuple[str, str | None]:
        """Why the answer ended, and the stop sequence that ended it."""
        assert self._last is not None
        calls = self._last.finish_reason == "tool_calls"
        if self._last.stop is not None and not (calls and self._called):
            return "stop_sequence", self._last.stop
        if self._last.finish_reason == "length":
            wanted = self.request.sampling.max_tokens
            whole = wanted is None or self.completion_tokens >= wanted
            return "max_tokens" if whole else "model_context_window_exceeded", None
        return "tool_use" if calls else "end_turn", None

    def _message(self) -> _Json:
        return {
            "id": self.request.id,
            "type": "message",
            "role": "assistant",
            "model": self.request.answers_as,
            "content": self._blocks,
            "usage": self._usage(),
        }

    def _usage(self) -> _Json:
        """All tokens of the prompt are in one of the members for input."""
        cached = self.cached_tokens
        return {
            "input_tokens": self.prompt_tokens - (cached or 0),
            "cache_creation_input_tokens": None if cached is None else 0,
            "cache_read_input_tokens": cached,
            "output_tokens": self.completion_tokens,
        }


def _arguments(text: str) -> tuple[_Json, bool]:
    """The arguments of a call, as far as they came, and whether they are whole: the answer may have
    ended within them."""
    for partial in (False, True):
        try:
            parsed = from_json(text or "{}", allow_partial="trailing-strings" if partial else False)
        except ValueError:
            continue
        if isinstance(parsed, dict):
            return parsed, not partial
    return {}, False
