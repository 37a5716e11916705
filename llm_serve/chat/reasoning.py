"""The marks between which models reason before they answer."""

from __future__ import annotations

from dataclasses import dataclass

from llm_serve.chat.answer import Answer
from llm_serve.chat.source import Reading, Source


@dataclass(frozen=True)
class ReasoningMarks:
    """Reasoning is between the two, before all else. The first may be the end of the prompt."""

    begin: str
    end: str

    def read(self, source: Source, answer: Answer, *, inside: bool) -> Reading[None]:
        """The reasoning, if there is any; what follows it is not read."""
        space = yield from source.space()
        begun = yield from source.skip(self.begin)
        if not begun and not inside:
            answer.text(space)
            return
        answer.begin_part()
        if (yield from source.until((self.end,), answer.reasoning)) is not None:
            answer.begin_part()


_THINK = ReasoningMarks("<think>", "</think>")
_BRACKETS = ReasoningMarks("[THINK]", "[/THINK]")
_SEED = ReasoningMarks("<seed:think>", "</seed:think>")

REASONING_PARSERS: dict[str, ReasoningMarks] = {
    "deepseek_r1": _THINK,
    "deepseek_v3": _THINK,
    "glm45": _THINK,
    "mistral": _BRACKETS,
    "olmo3": _THINK,
    "qwen3": _THINK,
    "seed_oss": _SEED,
}
"""By vLLM's names for them."""


def in_template(template: str) -> ReasoningMarks | None:
    """The marks that a chat template speaks of."""
    return next((m for m in (_SEED, _BRACKETS, _THINK) if m.end in template), None)
