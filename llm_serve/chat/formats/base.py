"""What a format of calls is: how models write calls of functions into their answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from llm_serve.chat.answer import Answer
from llm_serve.chat.grammar.lark import Lark
from llm_serve.chat.source import Reading, Source

Functions = Mapping[str, dict[str, Any]]
"""OpenAI's function objects by name."""


class CallFormat(Protocol):
    """One of the formats in this folder."""

    @property
    def marks(self) -> tuple[str, ...]:
        """Texts that may be special tokens of a tokenizer."""

    def read(self, source: Source, answer: Answer, functions: Functions) -> Reading[None]:
        """Reads to the end: what is a call goes into the answer as one, the rest as its text."""

    def guide(self, lark: Lark, functions: Functions, *, free: bool, parallel: bool) -> str | None:
        """The rule, in `lark`, of an answer that has calls in this format and nothing else.

        With `free` there may be text around the calls, or text alone; None where that would hold
        text to the format of a call that is not one.
        """
