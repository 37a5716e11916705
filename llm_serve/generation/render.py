"""From typed deltas to OpenAI's JSON and SSE bytes, in one place.

What we do not have is left out rather than sent as null, but for what OpenAI always sends:
`logprobs`, `refusal`, `annotations`, and all four members of an error.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from llm_serve.errors import ServeError
from llm_serve.generation.request import GenerationRequest
from llm_serve.sampling import CallDelta, Delta, FinishReason, TokenLogprob
from llm_serve.wire import DONE, error_frame, frame, to_json


def usage(
    prompt_tokens: int, completion_tokens: int, cached_tokens: int | None = None
) -> dict[str, Any]:
    """OpenAI's counts; `cached_tokens` of the prompt where the engine counts them."""
    counts: dict[str, Any] = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }
    if cached_tokens is not None:
        counts["prompt_tokens_details"] = {"cached_tokens": cached_tokens}
    return counts


class OpenAIRenderer:
    """The renderer of chats and text completions."""

    def __init__(self, request: GenerationRequest, prompt_tokens: int, choices: int) -> None:
        self.request = request
        self.prompt_tokens = prompt_tokens
        self.completion_tokens = 0
        self.cached_tokens: int | None = None
        self._chat = request.kind == "chat"
        suffix = "" if not self._chat else ".chunk" if request.stream else ""
        self._head = {
            "id": request.id,
            "object": ("chat.completion" if self._chat else "text_completion") + suffix,
            "created": request.created,
            "model": request.answers_as,
        }
        self._member = "text" if not self._chat else "delta" if request.stream else "message"
        """Of a choice: what was said."""
        self._texts: list[list[str]] = [[] for _ in range(choices)]
        self._reasoning: list[list[str]] = [[] for _ in range(choices)]
        self._calls: list[list[CallDelta]] = [[] for _ in range(choices)]
        self._logprobs: list[list[TokenLogprob]] = [[] for _ in range(choices)]
        self._finish: list[FinishReason | None] = [None] * choices
        self._offsets = [0] * choices
        self._begun = [False] * choices

    def begin(self) -> bytes:
        return b""

    def chunk(self, index: int, delta: Delta) -> bytes:
        """The frames of one delta; the first of a chat's choice carries the role."""
        self._count(index, delta)
        if delta.calls or delta.reasoning:
            return self._frames(index, delta)
        said: Any = delta.text
        if self._chat:
            said = {"content": delta.text} if delta.text else {}
            if not self._begun[index]:
                self._begun[index] = True
                said = {"role": "assistant", "content": delta.text}
            elif not (said or delta.finish_reason or delta.logprobs):
                return b""
        choice = self._choice(index, said, delta.logprobs, delta.finish_reason)
        return frame({**self._head, "choices": [choice]})

    def _frames(self, index: int, delta: Delta) -> bytes:
        """Those of a chat's delta with more than text: one for what is said, then one for each
        piece of a call, as OpenAI sends them. The first has the log-probabilities."""
        said: dict[str, Any] = {"content": delta.text} if delta.text else {}
        if not self._begun[index]:
            self._begun[index] = True
            said = {"role": "assistant", "content": delta.text or None}
        pieces = [said | _thought(delta.reasoning)] if said or delta.reasoning else []
        pieces += [{"tool_calls": [piece]} for call in delta.calls for piece in _pieces(call)]
        choices = [self._choice(index, piece, (), None) for piece in pieces or [{}]]
        choices[0]["logprobs"] = self._rendered_logprobs(index, delta.logprobs)
        choices[-1]["finish_reason"] = delta.finish_reason
        return b"".join(frame({**self._head, "choices": [choice]}) for choice in choices)

    def end(self) -> bytes:
        """The last frames: usage where it was asked for, and `[DONE]`."""
        if not self.request.include_usage:
            return DONE
        total = usage(self.prompt_tokens, self.completion_tokens, self.cached_tokens)
        return frame({**self._head, "choices": [], "usage": total}) + DONE

    def failed(self, error: ServeError) -> bytes:
        return error_frame(error)

    def add(self, index: int, delta: Delta) -> None:
        """Keeps a delta for `body`."""
        self._count(index, delta)
        self._texts[index].append(delta.text)
        if delta.calls or delta.reasoning:
            self._reasoning[index].append(delta.reasoning)
            self._calls[index].extend(delta.calls)
        self._logprobs[index].extend(delta.logprobs)
        self._finish[index] = delta.finish_reason

    def body(self) -> bytes:
        """The whole answer."""
        choices = []
        for index, texts in enumerate(self._texts):
            said: Any = "".join(texts)
            if self._chat:
                said = self._message(index, said)
            choices.append(self._choice(index, said, self._logprobs[index], self._finish[index]))
        total = usage(self.prompt_tokens, self.completion_tokens, self.cached_tokens)
        return to_json({**self._head, "choices": choices, "usage": total})

    def _message(self, index: int, text: str) -> dict[str, Any]:
        calls = joined(self._calls[index])
        message = {
            "role": "assistant",
            "content": text or (None if calls else ""),
            "refusal": None,
            "annotations": [],
            **_thought("".join(self._reasoning[index])),
        }
        if calls:
            message["tool_calls"] = [
                {"id": c.id, "type": "function", "function": _function(c)} for c in calls
            ]
        return message

    def _choice(
        self,
        index: int,
        said: Any,
        logprobs: Iterable[TokenLogprob],
        finish_reason: FinishReason | None,
    ) -> dict[str, Any]:
        return {
            "index": index,
            self._member: said,
            "logprobs": self._rendered_logprobs(index, logprobs),
            "finish_reason": finish_reason,
        }

    def _count(self, index: int, delta: Delta) -> None:
        self.completion_tokens += delta.tokens
        # Of a prompt's n samples the first counts, as `prompt_tokens` counts it once.
        if delta.cached_tokens is not None and index % self.request.n == 0:
            self.cached_tokens = (self.cached_tokens or 0) + delta.cached_tokens

    def _rendered_logprobs(self, index: int, tokens: Iterable[TokenLogprob]) -> Any:
        if self.request.sampling.logprobs is None:
            return None
        if self._chat:
            return {"content": [_chat_logprob(token) for token in tokens], "refusal": None}
        return self._legacy_logprobs(index, tokens)

    def _legacy_logprobs(self, index: int, tokens: Iterable[TokenLogprob]) -> dict[str, Any]:
        out: dict[str, list[Any]] = {
            "tokens": [],
            "token_logprobs": [],
            "top_logprobs": [],
            "text_offset": [],
        }
        for token in tokens:
            out["tokens"].append(token.token)
            out["token_logprobs"].append(token.logprob)
            out["top_logprobs"].append({text: logprob for text, _, logprob in token.top})
            out["text_offset"].append(self._offsets[index])
            self._offsets[index] += len(token.token)
        return out


def joined(pieces: Iterable[CallDelta]) -> list[CallDelta]:
    """The calls whole, of the pieces of one answer, in order."""
    first: dict[int, CallDelta] = {}
    arguments: dict[int, list[str]] = {}
    for piece in pieces:
        first.setdefault(piece.index, piece)
        arguments.setdefault(piece.index, []).append(piece.arguments)
    return [replace(c, arguments="".join(arguments[i])) for i, c in sorted(first.items())]


def _thought(reasoning: str) -> dict[str, Any]:
    """Reasoning under both names that clients look for."""
    return {"reasoning_content": reasoning, "reasoning": reasoning} if reasoning else {}


def _function(call: CallDelta) -> dict[str, Any]:
    return {"name": call.name, "arguments": call.arguments}


def _pieces(call: CallDelta) -> Iterable[dict[str, Any]]:
    """A call begins with empty arguments, and clients expect it to."""
    if call.id is not None:
        begun = _function(replace(call, arguments=""))
        yield {"index": call.index, "id": call.id, "type": "function", "function": begun}
    if call.arguments:
        yield {"index": call.index, "function": {"arguments": call.arguments}}


def _chat_logprob(token: TokenLogprob) -> dict[str, Any]:
    return {
        "token": token.token,
        "bytes": list(token.token_bytes),
        "logprob": token.logprob,
        "top_logprobs": [
            {"token": text, "bytes": list(data), "logprob": logprob}
            for text, data, logprob in token.top
        ],
    }
