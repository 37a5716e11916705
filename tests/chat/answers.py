"""Answers pushed through the parser of a chat format, cut at given places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from llm_serve.chat import ChatFormat
from llm_serve.sampling import Delta, FinishReason, Tools


@dataclass
class Parsed:
    """All that came out of one answer; `calls` are names and arguments."""

    reasoning: str = ""
    text: str = ""
    calls: list[tuple[str, str]] = field(default_factory=list)
    finish_reason: FinishReason | None = None


def parse(
    chat_format: ChatFormat,
    tools: Tools | None,
    text: str,
    *,
    cuts: Sequence[int] = (),
    reasoning: bool = False,
    finish: FinishReason = "stop",
) -> Parsed:
    """The text in the pieces that the cuts make of it, and an end without text."""
    parser = chat_format.parser(tools, reasoning)
    assert parser is not None
    pieces = [text[a:b] for a, b in pairwise([0, *sorted(cuts), len(text)])]
    parsed = Parsed()
    ids: set[str] = set()
    for delta in [*(Delta(piece, 1) for piece in pieces), Delta("", 1, finish)]:
        got = parser.push(delta)
        assert got.tokens == 1
        parsed.reasoning += got.reasoning
        parsed.text += got.text
        parsed.finish_reason = got.finish_reason
        for call in got.calls:
            if call.index == len(parsed.calls):
                assert call.name, "the first piece of a call has its name"
                assert call.id, "the first piece of a call has its id"
                assert call.id.startswith("call_")
                assert len(call.id) == 29
                assert call.id not in ids
                ids.add(call.id)
                parsed.calls.append((call.name, ""))
            else:
                assert call.name is None
                assert call.id is None
                assert call.index == len(parsed.calls) - 1, "calls come one after the other"
            name, arguments = parsed.calls[call.index]
            parsed.calls[call.index] = name, arguments + call.arguments
    return parsed
