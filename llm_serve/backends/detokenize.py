"""From tokens to text that may be sent: whole characters only, never a piece of a stop string.

`Detokenizer` and `StopMatcher` are pure and know no engine; `output_decoder` uses them. What is
sent cannot be taken back, so the one holds tokens that end inside a character, and the other holds
text that may become a stop string.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

REPLACEMENT = "\ufffd"
"""What decoders put for bytes that are no character, or not yet."""
_HELD = 16
"""Tokens that may be held for one character; none has so many, but a model may well go on and on
with bytes that make none, or with tokens that have no text."""
_KEPT = 8
"""Of those, how many are decoded together with what follows: more bytes than a character has."""


class Detokenizer:
    """Decodes one sequence, token by token.

    Decoders look at neighbours (SentencePiece drops the first space, byte fallback joins bytes), so
    a token is decoded together with those of the last text that was given out, not alone.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._window: list[int] = []
        self._known = 0  # so many tokens of the window were given out already, ...
        self._known_text = ""  # ... and this is their text

    def push(self, token_id: int) -> str:
        """The text that is certain now; empty while a character is incomplete."""
        self._window.append(token_id)
        text = self._decode(self._window)
        if text.endswith(REPLACEMENT) or len(text) <= len(self._known_text):
            return self._let_go(text) if len(self._window) - self._known > _HELD else ""
        gained = text[len(self._known_text) :]
        del self._window[: self._known]
        self._known = len(self._window)
        self._known_text = self._decode(self._window)
        return gained

    def _let_go(self, text: str) -> str:
        """Holds fewer tokens, so that one more costs no more than the one before."""
        if text == self._known_text:
            del self._window[self._known :]
            return ""
        gained = _settled(text)[len(self._known_text) :]
        self._window, self._known = self._window[-_KEPT:], 0
        self._known_text = _settled(self._decode(self._window))
        return gained

    def flush(self) -> str:
        """The held text less the character that stays incomplete."""
        text = self._decode(self._window)[len(self._known_text) :].rstrip(REPLACEMENT)
        self._window, self._known, self._known_text = [], 0, ""
        return text


def _settled(text: str) -> str:
    """The text less what may become a character yet, of which three bytes may be there."""
    return text[: max(len(text.rstrip(REPLACEMENT)), len(text) - 3)]


@dataclass(frozen=True, slots=True)
class Matched:
    """What a piece of text let through, and the stop string that it completed."""

    text: str
    stop: str | None = None


class StopMatcher:
    """Lets text through up to the first stop string, which is held back whole.

    "First" is the one that is completed first, so that the result does not depend on where the text
    was cut into pieces.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""

    def push(self, piece: str) -> Matched:
        if not self._stops:
            return Matched(piece)
        text = self._held + piece
        hits = [(at + len(stop), at, stop) for stop in self._stops if (at := text.find(stop)) >= 0]
        if hits:
            _, start, stop = min(hits)
            self._held = ""
            return Matched(text[:start], stop)
        keep = max(_overlap(text, stop) for stop in self._stops)
        self._held = text[len(text) - keep :]
        return Matched(text[: len(text) - keep])

    def flush(self) -> str:
        """The held text, once nothing can follow it."""
        text, self._held = self._held, ""
        return text


def _overlap(text: str, stop: str) -> int:
    """How long the longest proper prefix of `stop` is that ends `text`."""
    for length in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
