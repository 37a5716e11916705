"""What pydantic says about a configuration, as sentences with a remedy.

`deployments.machine.config_file` uses it for files, `llm_serve.cli.selection` for flags.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from llm_serve.config.yaml_file import Loc


def explain(error: ValidationError, tree: type[BaseModel]) -> Iterator[tuple[Loc, str]]:
    """Place and sentence of each error."""
    details = error.errors(include_url=False)
    places = [tuple(detail["loc"]) for detail in details]
    for detail, loc in zip(details, places, strict=True):
        if detail["type"] == "too_short" and any(p[: len(loc)] == loc != p for p in places):
            continue  # pydantic counts what is wrong inside as missing
        yield loc, _sentence(detail, loc, _models_at(tree, loc[:-1]))


def unknown_keys(data: Any, tree: Any, loc: Loc = ()) -> Iterator[tuple[Loc, str]]:
    """Keys that `tree` has no field for, at any depth: for trees that drop them in silence."""
    models = _models(tree)
    if isinstance(data, list):
        for index, item in enumerate(data):
            yield from unknown_keys(item, tree, (*loc, index))
    elif isinstance(data, dict) and models:
        known = {key: kind for model in models for key, kind in _keys(model).items()}
        for key, value in data.items():
            if key in known:
                yield from unknown_keys(value, known[key], (*loc, key))
            elif not any(key in model.model_fields for model in models):
                yield (*loc, key), unknown(str(key), known, loc)


def unknown(key: str, known: Iterable[str], loc: Loc) -> str:
    """The sentence for it: `unknown key 'x' in models[0]; did you mean 'y'?`."""
    names = sorted(known)
    near = difflib.get_close_matches(key, names, n=1)
    remedy = f"did you mean {near[0]!r}?" if near else f"it may hold: {', '.join(names)}"
    where = f" in {path(loc)}" if loc else ""
    return f"unknown key {key!r}{where}; {remedy}"


def path(loc: Loc) -> str:
    """The place as a person would write it: `models[0].engine`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in loc)
    return text.removeprefix(".")


def _sentence(detail: ErrorDetails, loc: Loc, owners: list[type[BaseModel]]) -> str:
    """`owners`: the models that hold the last step of `loc`; several where a field is a union."""
    key = str(loc[-1]) if loc else ""
    if detail["type"] == "extra_forbidden":
        known = {name for owner in owners if key not in owner.model_fields for name in _keys(owner)}
        return unknown(key, known, loc[:-1])
    hint = _hint(owners, key)
    if detail["type"] == "missing":
        return f"{path(loc)} is missing; add it{hint}"
    if detail["type"] == "value_error":
        return str(detail["ctx"]["error"])
    message = detail["msg"][0].lower() + detail["msg"][1:]
    given = detail["input"]
    shown = f", not {given!r}" if isinstance(given, str | int | float) else ""
    return f"{path(loc)}: {message}{shown}{hint}"


def _hint(owners: list[type[BaseModel]], key: str) -> str:
    fields = [owner.model_fields[key] for owner in owners if key in owner.model_fields]
    text = fields[0].description if fields else None
    return f" ({text.rstrip('.')})" if text else ""


def _models_at(tree: Any, loc: Loc) -> list[type[BaseModel]]:
    models = _models(tree)
    for step in loc:
        if isinstance(step, str):
            fields = [m.model_fields[step] for m in models if step in m.model_fields]
            models = [model for field in fields for model in _models(field.annotation)]
    return models


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The pydantic models in `X`, `X | Y`, `list[X]` or `tuple[X, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        # `args` of a Ray application is BaseModel itself, that is anything.
        return [annotation] if annotation is not BaseModel else []
    return [model for argument in get_args(annotation) for model in _models(argument)]


def _keys(model: type[BaseModel]) -> dict[str, Any]:
    """What a file may call the fields of this model, and their types."""
    return {field.alias or name: field.annotation for name, field in model.model_fields.items()}
