"""Turns what pydantic says about a configuration into sentences with a remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from llm_serve.yamlfile import Loc


def explain(error: ValidationError, tree: type[BaseModel]) -> Iterator[tuple[Loc, str]]:
    """Place and sentence of each error."""
    for detail in error.errors(include_url=False):
        yield from _explain(detail, tree)


def unknown_keys(data: Any, tree: Any, loc: Loc = ()) -> Iterator[tuple[Loc, str]]:
    """Keys that `tree` has no field for, at any depth: for trees that drop them in silence."""
    model = _model(tree)
    if isinstance(data, list):
        for index, item in enumerate(data):
            yield from unknown_keys(item, tree, (*loc, index))
    elif isinstance(data, dict) and model is not None:
        fields = {f.alias or name: f for name, f in model.model_fields.items()}
        for key, value in data.items():
            if key in fields:
                yield from unknown_keys(value, fields[key].annotation, (*loc, key))
            elif key not in model.model_fields:
                yield (*loc, key), unknown(str(key), fields, loc)


def unknown(key: str, known: Iterable[str], loc: Loc) -> str:
    """`unknown key 'x' in models[0]; did you mean 'y'?`"""
    names = sorted(known)
    near = difflib.get_close_matches(key, names, n=1)
    remedy = f"did you mean {near[0]!r}?" if near else f"it may hold: {', '.join(names)}"
    where = f" in {path(loc)}" if loc else ""
    return f"unknown key {key!r}{where}; {remedy}"


def path(loc: Loc) -> str:
    """`models[0].engine`"""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in loc)
    return text.removeprefix(".")


def _explain(detail: ErrorDetails, tree: type[BaseModel]) -> Iterator[tuple[Loc, str]]:
    loc: Loc = tuple(detail["loc"])
    cause = detail.get("ctx", {}).get("error")
    if isinstance(cause, ValidationError):  # of `engine`, which a validator reads by backend
        for inner in cause.errors(include_url=False):
            at: Loc = (*loc, "engine", *inner["loc"])
            owner = next(m for m in _models(tree) if m.__name__ == cause.title)
            yield at, _sentence(inner, at, owner)
        return
    yield loc, _sentence(detail, loc, _model_at(tree, loc[:-1]))


def _sentence(detail: ErrorDetails, loc: Loc, owner: type[BaseModel] | None) -> str:
    key = str(loc[-1]) if loc else ""
    if detail["type"] == "extra_forbidden":
        return unknown(key, owner.model_fields if owner else (), loc[:-1])
    if detail["type"] == "missing":
        return f"{path(loc)} is missing; add it{_hint(owner, key)}"
    if detail["type"] == "value_error":
        return str(detail["ctx"]["error"])
    message = detail["msg"][0].lower() + detail["msg"][1:]
    given = detail["input"]
    shown = f", not {given!r}" if isinstance(given, str | int | float) else ""
    return f"{path(loc)}: {message}{shown}{_hint(owner, key)}"


def _hint(owner: type[BaseModel] | None, key: str) -> str:
    field = owner.model_fields.get(key) if owner else None
    return f" ({field.description.rstrip('.')})" if field and field.description else ""


def _model_at(tree: type[BaseModel], loc: Loc) -> type[BaseModel] | None:
    model: type[BaseModel] | None = tree
    for step in loc:
        if isinstance(step, str) and model is not None and step in model.model_fields:
            model = _model(model.model_fields[step].annotation)
    return model


def _model(annotation: Any) -> type[BaseModel] | None:
    """The pydantic model in `X`, `X | None`, `list[X]` or `tuple[X, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        # `args` of a Ray application is BaseModel itself, that is anything.
        return annotation if annotation is not BaseModel else None
    return next((m for a in get_args(annotation) if (m := _model(a)) is not None), None)


def _models(tree: Any) -> Iterator[type[BaseModel]]:
    """Every model that an annotation leads to."""
    if isinstance(tree, type) and issubclass(tree, BaseModel):
        yield tree
        for field in tree.model_fields.values():
            yield from _models(field.annotation)
    for argument in get_args(tree):
        yield from _models(argument)
