"""How long a request may be held while its model loads: the client's wish, then the server's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from llm_serve.config import ColdStart

_WAIT = re.compile(r"wait\s*=\s*\"?(\d{1,6})\"?")
_MARGIN_S = 5.0
"""An answer must be there before the client's own read timeout."""


@dataclass(frozen=True, slots=True)
class Hold:
    """`seconds` None: the client gets its 202 at once. `applied`: what of RFC 7240 was honoured."""

    seconds: float | None
    applied: str | None = None


def hold_for(headers: Mapping[str, str], cold_start: ColdStart) -> Hold:
    """Decides by `Prefer` (RFC 7240), then by `cold_start.mode`.

    In `auto` an OpenAI SDK is held, because it takes a 202 for an empty answer; it is known by its
    header `x-stainless-lang`, and says in `x-stainless-read-timeout` how long it waits.
    """
    for preference in headers.get("prefer", "").split(","):
        wish = preference.strip().lower()
        if wish == "respond-async":
            return Hold(None, "respond-async")
        if match := _WAIT.fullmatch(wish):
            seconds = min(float(match[1]), cold_start.max_hold_s)
            return Hold(seconds, f"wait={seconds:.0f}")
    held = cold_start.mode == "wait" or (
        cold_start.mode == "auto" and "x-stainless-lang" in headers
    )
    if not held:
        return Hold(None)
    patience = _seconds(headers.get("x-stainless-read-timeout", ""))
    if patience is None:
        return Hold(cold_start.max_hold_s)
    return Hold(min(cold_start.max_hold_s, max(1.0, patience - _MARGIN_S)))


def _seconds(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if 0 < seconds < 1e6 else None
