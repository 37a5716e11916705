"""How long a request may be held while its model loads: the client's wish, then the server's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from llm_serve.config import ColdStart

_WAIT = re.compile(r"wait\s*=\s*\"?(\d{1,6})\"?")
_ANSWERED_202 = frozenset({"/v1/chat/completions", "/v1/completions"})
"""The guide's 202 is about these; clients of all other routes know no such answer."""
_READ_202_AS_AN_ANSWER = re.compile(r"\b(?:ai-sdk|litellm)/")
"""User agents of clients with HTTP code of their own, without the headers of an OpenAI SDK."""
_PATIENCE = ("x-stainless-read-timeout", "x-stainless-timeout")
"""Where SDKs say for how many seconds they wait: those in Python, then those in JavaScript."""
_MARGIN_S = 5.0
"""An answer must be there before the client's own read timeout."""


@dataclass(frozen=True, slots=True)
class Hold:
    """`seconds` None: the client gets its 202 at once. `applied`: what of RFC 7240 was honoured."""

    seconds: float | None
    applied: str | None = None


def hold_for(headers: Mapping[str, str], cold_start: ColdStart, path: str) -> Hold:
    """Decides by `Prefer` (RFC 7240), then by `cold_start.mode`.

    In `auto` the request is held of whoever would take a 202 for an empty answer: clients of all
    routes but chats and texts, and there OpenAI's SDKs, known by their header `x-stainless-lang`,
    and the clients that are known by their user agent.
    """
    for preference in headers.get("prefer", "").split(","):
        wish = preference.strip().lower()
        if wish == "respond-async":
            return Hold(None, "respond-async")
        if match := _WAIT.fullmatch(wish):
            seconds = min(float(match[1]), cold_start.max_hold_s)
            return Hold(seconds, f"wait={seconds:.0f}")
    if cold_start.mode == "accept" or (cold_start.mode == "auto" and _knows_202(headers, path)):
        return Hold(None)
    for name in _PATIENCE:
        if (patience := _seconds(headers.get(name, ""))) is not None:
            return Hold(min(cold_start.max_hold_s, max(1.0, patience - _MARGIN_S)))
    return Hold(cold_start.max_hold_s)


def _knows_202(headers: Mapping[str, str], path: str) -> bool:
    sdk = "x-stainless-lang" in headers or _READ_202_AS_AN_ANSWER.search(
        headers.get("user-agent", "")
    )
    return path in _ANSWERED_202 and not sdk


def _seconds(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if 0 < seconds < 1e6 else None
