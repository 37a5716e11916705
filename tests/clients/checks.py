"""What an answer must hold to count, by its keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.clients.agents import NOTE
from tests.clients.driver import Outcome
from tests.clients.roster import Cell
from tests.clients.trial import A, B


def _text(text: str) -> None:
    assert "Paris" in text


def _pieces(pieces: list[str]) -> None:
    assert len(pieces) > 2
    assert "Paris" in "".join(pieces)


def _calls(calls: list[Any]) -> None:
    assert calls
    for arguments in calls:
        assert set(arguments) == {"city"}
        assert isinstance(arguments["city"], str)


def _object(value: Any) -> None:
    assert set(value) == {"name", "age"}
    assert isinstance(value["name"], str)
    assert value["age"] == 36


def _objects(values: list[Any]) -> None:
    assert len(values) == 2
    for value in values:
        _object(value)


def _json(value: Any) -> None:
    assert isinstance(value, dict)


def _vectors(vectors: list[list[float]]) -> None:
    first, second = vectors
    assert len(first) == len(second) > 8
    assert first != second


def _texts(texts: list[str]) -> None:
    first, second = texts
    assert "Paris" in first
    assert "Rome" in second


def _models(models: list[str]) -> None:
    assert models == [A, B]


def _ran(output: str) -> None:
    assert output.strip().endswith(NOTE)


def _tokens(tokens: int) -> None:
    assert tokens > 2


CHECKS: dict[str, Callable[[Any], None]] = {
    "text": _text,
    "pieces": _pieces,
    "calls": _calls,
    "object": _object,
    "objects": _objects,
    "json": _json,
    "vectors": _vectors,
    "texts": _texts,
    "models": _models,
    "tokens": _tokens,
    "sent": _tokens,
    "ran": _ran,
}


def check(cell: Cell, outcome: Outcome) -> None:
    """AssertionError where the client did not get what it asked for."""
    assert outcome.error is None, outcome.error
    assert outcome.answer
    for key, value in outcome.answer.items():
        CHECKS[key](value)
    if cell.feature == "count_tokens":
        assert outcome.answer["tokens"] == outcome.answer["sent"]


def passed(cell: Cell, outcome: Outcome) -> bool:
    try:
        check(cell, outcome)
    except AssertionError:
        return False
    return True
