"""The configuration reference of the README, from the pydantic tree."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from llm_serve.config import (
    AdapterConfig,
    ColdStart,
    EchoEngine,
    ModelConfig,
    Residency,
    SamplingDefaults,
    ServerConfig,
    TransformersEngine,
)

SECTIONS: list[tuple[str, type[BaseModel]]] = [
    ("`models`: a list, one entry a model", ModelConfig),
    ("`models[].engine` of the transformers backend", TransformersEngine),
    ("`models[].engine` of the echo backend", EchoEngine),
    ("`models[].adapters`: a list, for the vllm backend", AdapterConfig),
    ("`models[].defaults`: what a request that leaves a field out gets", SamplingDefaults),
    ("`residency`: who may be in memory", Residency),
    ("`cold_start`: what a request for a model that is not ready gets", ColdStart),
    ("`server`", ServerConfig),
]


def reference() -> str:
    """A table for each section."""
    return "\n".join(_table(title, model) for title, model in SECTIONS)


def _table(title: str, model: type[BaseModel]) -> str:
    rows = "\n".join(_rows(model))
    return f"**{title}**\n\n| key | default | range | what it does |\n|---|---|---|---|\n{rows}\n"


def _rows(model: type[BaseModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        cells = (
            f"`{field.alias or name}`",
            _default(field),
            _range(field),
            field.description or "",
        )
        yield "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if _sections(field.annotation):
        return "below"
    return f"`{json.dumps(field.get_default(call_default_factory=True))}`"


def _range(field: FieldInfo) -> str:
    words = [f"`{value}`" for value in _choices(field.annotation)]
    if words:
        return ", ".join(words)
    bounds = {type(item): item for item in field.metadata}
    low = bounds.get(Ge) or bounds.get(Gt)
    high = bounds.get(Le) or bounds.get(Lt)
    start = "" if low is None else f"{low.ge:g}" if isinstance(low, Ge) else f"above {low.gt:g}"
    end = "" if high is None else _number(high.le if isinstance(high, Le) else high.lt)
    if start and end:
        return f"{start} to {end}"
    return f"from {start}" if start and isinstance(low, Ge) else start


def _number(value: Any) -> str:
    return f"{value:,}".replace(",", " ") if isinstance(value, int) else f"{value:g}"


def _choices(annotation: Any) -> list[Any]:
    """What a Literal allows, at any depth of a union."""
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    if annotation is NoneType or get_origin(annotation) in (tuple, list):
        return []
    return [choice for argument in get_args(annotation) for choice in _choices(argument)]


def _sections(annotation: Any) -> bool:
    """Whether the field is a part of the tree with a table of its own."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return True
    return any(_sections(argument) for argument in get_args(annotation))
