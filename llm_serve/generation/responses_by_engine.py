"""Answers of an engine's own `/v1/responses` (vLLM's), told anew by our renderer.

vLLM 0.32 has members that no OpenAI client knows (counts by turn, names in events) and lacks others
(`error`, `completed_at`), ends an answer that was cut with `response.completed`, and says nothing
in the end where it failed. What was generated is read of its events; all else is ours.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing
from typing import Any

from pydantic_core import from_json

from llm_serve.errors import ServeError
from llm_serve.generation.request import GenerationRequest
from llm_serve.generation.responses import ResponsesRenderer
from llm_serve.sampling import CallDelta, Delta, FinishReason, TokenLogprob


async def answered(
    request: GenerationRequest, messages: AsyncGenerator[bytes, None]
) -> AsyncGenerator[bytes, None]:
    """The renderer's messages for the engine's: each holds whole events, or is the whole body.
    Raises ServeError before the first one."""
    renderer = ResponsesRenderer(request, 0)
    reading = _Reading(renderer)
    async with aclosing(messages):
        if not request.stream:
            body = b"".join([message async for message in messages])
            for delta in reading.whole(from_json(body)):
                renderer.add(0, delta)
            yield renderer.body()
            return
        begun = False
        try:
            async for message in messages:
                deltas = [d for event in _events(message) for d in reading.event(event)]
                sent = b"" if begun else renderer.begin()
                sent += b"".join(renderer.chunk(0, delta) for delta in deltas)
                begun = True
                if sent:
                    yield sent
        except ServeError as error:
            if not begun:
                raise
            yield renderer.failed(error)
            return
        yield renderer.end()


def _events(message: bytes) -> Iterator[dict[str, Any]]:
    for line in message.split(b"\n"):
        if line.startswith(b"data: {"):
            yield from_json(line[len(b"data: ") :])


class _Reading:
    """What was generated, as deltas; the last one has the counts of all."""

    def __init__(self, renderer: ResponsesRenderer) -> None:
        self._renderer = renderer
        self._calls = 0

    def event(self, event: Mapping[str, Any]) -> Iterator[Delta]:
        match event["type"]:
            case "response.output_text.delta":
                yield Delta(event["delta"], 0, logprobs=_logprobs(event.get("logprobs")))
            case "response.reasoning_text.delta":
                yield Delta("", 0, reasoning=event["delta"])
            case "response.output_item.added" if event["item"]["type"] == "function_call":
                yield self._begins(event["item"])
            case "response.function_call_arguments.delta":
                yield Delta("", 0, calls=(CallDelta(self._calls - 1, event["delta"]),))
            case "response.completed" | "response.incomplete":
                yield self._end(event["response"])

    def whole(self, response: Mapping[str, Any]) -> Iterator[Delta]:
        for item in response["output"]:
            match item["type"]:
                case "message":
                    for part in item["content"]:
                        text = part.get("text", part.get("refusal", ""))
                        yield Delta(text, 0, logprobs=_logprobs(part.get("logprobs")))
                case "reasoning":
                    for part in item.get("content") or ():
                        yield Delta("", 0, reasoning=part["text"])
                case "function_call":
                    yield self._begins(item)
                    yield Delta("", 0, calls=(CallDelta(self._calls - 1, item["arguments"]),))
        yield self._end(response)

    def _begins(self, call: Mapping[str, Any]) -> Delta:
        self._calls += 1
        first = CallDelta(self._calls - 1, "", call["call_id"], call["name"])
        return Delta("", 0, calls=(first,))

    def _end(self, response: Mapping[str, Any]) -> Delta:
        usage = response["usage"]
        self._renderer.prompt_tokens = usage["input_tokens"]
        self._renderer.reasoning_tokens = usage["output_tokens_details"]["reasoning_tokens"]
        cached = usage["input_tokens_details"]["cached_tokens"]
        cut = response["status"] == "incomplete"
        reason: FinishReason = "length" if cut else "tool_calls" if self._calls else "stop"
        return Delta("", usage["output_tokens"], reason, cached_tokens=cached)


def _logprobs(entries: list[dict[str, Any]] | None) -> tuple[TokenLogprob, ...]:
    """Its events have no bytes, so they are those of the token's text."""
    return tuple(
        TokenLogprob(*_token(entry), tuple(_token(one) for one in entry.get("top_logprobs") or ()))
        for entry in entries or ()
    )


def _token(entry: Mapping[str, Any]) -> tuple[str, bytes, float]:
    data = entry.get("bytes")
    return entry["token"], bytes(data) if data else entry["token"].encode(), entry["logprob"]
