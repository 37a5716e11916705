"""What the attacker sends."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from bench.steady import CHAT

Parts = Iterator[tuple[float, bytes]]
"""Bytes to send, each with the seconds to pause after it."""
_FOREVER_S = 3600.0
_HEAD = f"POST {CHAT} HTTP/1.1\r\nHost: 127.0.0.1\r\n".encode()


@dataclass(frozen=True)
class Attack:
    """`expected` has every status that an answer may have."""

    connections: int
    parts: Callable[[], Parts]
    expected: frozenset[int]
    stalls: bool = False
    """The request is never complete: the server has to end it."""
    hangs_up: bool = False
    """The attacker closes, and reads no answer."""


def request(content: bytes, *headers: str, path: str = CHAT) -> bytes:
    """A whole request, after whose answer the connection closes."""
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: 127.0.0.1",
        "Connection: close",
        "Content-Type: application/json",
        f"Content-Length: {len(content)}",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


def chat(**fields: Any) -> bytes:
    messages = [{"role": "user", "content": "hi"}]
    return json.dumps({"messages": messages, "max_tokens": 1, **fields}).encode()


def _slow_headers() -> Parts:
    yield 0.5, _HEAD
    for number in range(3600):
        yield 1.0, f"X-Slow-{number}: a\r\n".encode()


def _slow_body() -> Parts:
    yield 0.5, _HEAD + b"Content-Type: application/json\r\nContent-Length: 100000\r\n\r\n"
    while True:
        yield 1.0, b" " * 10


def _half() -> Parts:
    yield _FOREVER_S, _HEAD


def _nothing() -> Parts:
    yield _FOREVER_S, b""


def _connect() -> Parts:
    yield 0.0, b""


def _whole(content: bytes, *headers: str, path: str = CHAT) -> Callable[[], Parts]:
    """The same request again and again, made once; a pause keeps the attacker off the cores."""
    whole = request(content, *headers, path=path)

    def parts() -> Parts:
        yield 0.05, whole

    return parts


_ZEROS = b'{"messages":[' + b",".join([b"0"] * 1_000_000) + b"]}"
_EMPTIES = b'{"messages":[' + b",".join([b"{}"] * 2_700_000) + b"]}"
_DEEP = b'{"messages":' + b"[" * 500_000 + b"]" * 500_000 + b"}"
_BIAS = chat(logit_bias={str(token): 1 for token in range(230_000)})
_MANY = json.dumps({"prompt": ["hi"] * 128, "n": 128, "max_tokens": 4}).encode()
_BAD = frozenset({400})
_BAD_OR_LARGE = frozenset({400, 413})
_TOO_MANY = frozenset({429, 503})
"""What somebody who has too much open already may be told."""
_LATE = frozenset({408}) | _TOO_MANY

ATTACKS = {
    "slow headers": Attack(200, _slow_headers, _LATE, stalls=True),
    "slow bodies": Attack(200, _slow_body, _LATE, stalls=True),
    "half requests": Attack(4200, _half, _LATE, stalls=True),
    "silent connections": Attack(1000, _nothing, _LATE, stalls=True),
    "zeros": Attack(4, _whole(_ZEROS), _BAD | _TOO_MANY),
    "empty objects": Attack(4, _whole(_EMPTIES), _BAD_OR_LARGE | _TOO_MANY),
    "deep nesting": Attack(4, _whole(_DEEP), _BAD | _TOO_MANY),
    "logit_bias": Attack(4, _whole(_BIAS), _BAD_OR_LARGE | _TOO_MANY),
    "amplification": Attack(4, _whole(_MANY, path="/v1/completions"), _BAD | _TOO_MANY),
    "a large header": Attack(
        8, _whole(chat(), "X-Large: " + "a" * 20_000), frozenset({400, 431}) | _TOO_MANY
    ),
    "many headers": Attack(
        8,
        _whole(chat(), *[f"X-Many-{number}: a" for number in range(300)]),
        # All of them are 4 KB, which a server may well take.
        frozenset({200, 400, 431}) | _TOO_MANY,
    ),
    "open and close": Attack(16, _connect, frozenset(), hangs_up=True),
}
