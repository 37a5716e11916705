"""One answer, taken apart while it is generated: reasoning, text, calls of tools."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from llm_serve.chat.source import Reading, Source
from llm_serve.sampling import CallDelta, Delta


@dataclass(slots=True)
class _Call:
    index: int
    id: str | None = None
    name: str | None = None
    arguments: list[str] = field(default_factory=list)


class Answer:
    """What was read and not taken yet.

    White space between the parts is how models lay out an answer and belongs to none of them: it
    is left out around the reasoning, before a call, and after the last call.
    """

    def __init__(self) -> None:
        self.calls = 0
        """Calls that were begun."""
        self._reasoning: list[str] = []
        self._text: list[str] = []
        self._calls: list[_Call] = []
        self._space = ""
        """White space that is part of the answer if more of the same part follows."""
        self._fresh = False
        """Whether white space is left out, since the part has just begun."""

    def begin_part(self) -> None:
        """The reasoning begins, or the text after it."""
        self._space, self._fresh = "", True

    def reasoning(self, piece: str) -> None:
        self._add(piece, self._reasoning)

    def text(self, piece: str) -> None:
        self._add(piece, self._text)

    def _add(self, piece: str, part: list[str]) -> None:
        if self._fresh:
            piece = piece.lstrip()
            self._fresh = not piece
        piece = self._space + piece
        solid = piece.rstrip()
        self._space = piece[len(solid) :]
        if solid:
            part.append(solid)

    def begin_call(self, name: str) -> None:
        self._space, self._fresh = "", False
        self._calls.append(_Call(self.calls, f"call_{secrets.token_hex(12)}", name))
        self.calls += 1

    def arguments(self, piece: str) -> None:
        """A piece of the arguments of the last call, which are JSON text."""
        if not self._calls or self._calls[-1].index != self.calls - 1:
            self._calls.append(_Call(self.calls - 1))
        self._calls[-1].arguments.append(piece)

    def end(self) -> None:
        if not self.calls and not self._fresh:
            self._text.append(self._space)

    def take(self) -> tuple[str, str, tuple[CallDelta, ...]]:
        """Reasoning, text and calls since the last time."""
        calls = tuple(CallDelta(c.index, "".join(c.arguments), c.id, c.name) for c in self._calls)
        taken = "".join(self._reasoning), "".join(self._text), calls
        self._reasoning, self._text, self._calls = [], [], []
        return taken


class AnswerParser:
    """Takes the text of one answer apart, delta by delta.

    However the text is cut into deltas, what comes out is the same; it comes as early as it is
    certain, and the cost is linear in the text. All else in a delta stays as it is, but that an
    answer which ended by itself and has calls ends with `tool_calls`.
    """

    def __init__(self, read: Callable[[Source, Answer], Reading[None]]) -> None:
        self._source = Source()
        self._answer = Answer()
        self._reading = read(self._source, self._answer)

    def push(self, delta: Delta) -> Delta:
        ended = delta.finish_reason is not None
        if not delta.text and not ended:
            return delta
        self._source.push(delta.text)
        self._source.ended = ended
        for _ in self._reading:
            break
        if ended:
            self._answer.end()
        reasoning, text, calls = self._answer.take()
        finish = delta.finish_reason
        if finish == "stop" and self._answer.calls:
            finish = "tool_calls"
        return replace(delta, text=text, reasoning=reasoning, calls=calls, finish_reason=finish)
