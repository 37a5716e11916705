"""Waiting for a condition, never for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")


def until(
    condition: Callable[[], _T], what: str, *, seconds: float = 20, every: float = 0.05
) -> _T:
    """Polls until the condition holds and returns its value; past `seconds` fails with `what`."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}; the last value was {value!r}")
        time.sleep(every)
