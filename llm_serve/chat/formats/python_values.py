"""Values as Python writes them, read to their end and made JSON."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

from llm_serve.chat.source import MAX_DEPTH, Reading, Source

_BETWEEN = re.compile(r"""[^"'()\[\]{},]*""")
_QUOTED = {
    '"': re.compile(r'(?:[^"\\]|\\.)*', re.DOTALL),
    "'": re.compile(r"(?:[^'\\]|\\.)*", re.DOTALL),
}
_CLOSES = {")": "(", "]": "[", "}": "{"}
_JSON_NAMES: dict[str, Any] = {"true": True, "false": False, "null": None}


def python_value(source: Source) -> Reading[str | None]:
    """A value as JSON, read up to the comma or bracket after it; None where there is none."""
    text = yield from _text(source)
    return None if text is None else _as_json(text)


def _text(source: Source) -> Reading[str | None]:
    """The value as it is written; None where there is no end."""
    pieces: list[str] = []
    open_brackets: list[str] = []
    while True:
        pieces.append((yield from source.run(_BETWEEN)))
        char = yield from source.peek()
        if not char or len(open_brackets) > MAX_DEPTH:
            return None
        if char in _QUOTED:
            pieces.append((yield from source.take(1)))
            while True:
                pieces.append((yield from source.run(_QUOTED[char])))
                last = yield from source.peek(2)
                if not last or last == "\\":
                    return None
                pieces.append((yield from source.take(1 if last[0] == char else 2)))
                if last[0] == char:
                    break
            continue
        if not open_brackets and char in (",", ")", "]", "}"):
            return "".join(pieces).strip()
        if char in _CLOSES:
            if open_brackets.pop() != _CLOSES[char]:
                return None
        elif char != ",":
            open_brackets.append(char)
        pieces.append((yield from source.take(1)))


def _as_json(value: str) -> str | None:
    """A literal as JSON; None where it is none."""
    try:
        json.loads(value, parse_constant=_refuse)
    except (ValueError, RecursionError):
        pass
    else:
        return value
    try:
        return json.dumps(
            _literal(ast.parse(value, mode="eval").body), ensure_ascii=False, allow_nan=False
        )
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None


def _literal(node: ast.expr) -> Any:
    if isinstance(node, ast.Name) and node.id in _JSON_NAMES:
        return _JSON_NAMES[node.id]
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        return [_literal(value) for value in node.elts]
    if isinstance(node, ast.Dict):
        keys = [ast.literal_eval(key) if key else None for key in node.keys]
        if not all(isinstance(key, str) for key in keys):
            raise ValueError("a key is no text")
        return dict(zip(keys, map(_literal, node.values), strict=True))
    return ast.literal_eval(node)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
