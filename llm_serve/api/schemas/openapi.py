"""`/openapi.json`: generated from the table of routes and the types of bodies and answers."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any, Literal

from pydantic import TypeAdapter

from llm_serve import __version__
from llm_serve.api.schemas.operations import Answer, Operation, operations

_WHY = {
    400: "Invalid request, unknown model, prompt too long or unsupported parameter",
    401: "An API key is needed",
    403: "The API key, the web page's origin or the host name is not accepted",
    404: "No such route, model or stored response",
    408: "The request was not sent in time",
    409: "Not accepting requests",
    413: "The body is too large",
    429: "The queue is full",
    431: "The headers are too large",
    500: "An internal error",
    502: "The engine died",
    503: "The model is not ready or could not be loaded",
    504: "The inference timeout passed",
}
_MODEL_ID = {
    "name": "model_id",
    "in": "path",
    "required": True,
    "description": "May contain `/`.",
    "schema": {"type": "string", "minLength": 1},
}
_RESPONSE_ID = {
    "name": "response_id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": "^[^/]+$"},
}
_Json = dict[str, Any]
_Mode = Literal["validation", "serialization"]


@cache
def document(extended: bool = False) -> _Json:
    """OpenAPI 3.1 of `operations(extended)`."""
    table = operations(extended)
    used = dict.fromkeys(_types(table))  # in order, each once
    references, definitions = TypeAdapter.json_schemas(
        [(kind, mode, TypeAdapter(kind)) for kind, mode in used],
        ref_template="#/components/schemas/{model}",
    )
    paths: _Json = {}
    for operation in table:
        described = _describe(operation, references)
        paths.setdefault(operation.path, {})[operation.method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "llm-serve",
            "version": __version__,
            "description": "OpenAI-compatible chat and text completions over many models.",
        },
        "paths": paths,
        "components": {
            "schemas": definitions["$defs"],
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"key": []}],
    }


def _types(table: Iterable[Operation]) -> Iterable[tuple[Any, _Mode]]:
    """Every type of a body or an answer, and which side of pydantic's schema it takes."""
    for operation in table:
        yield operation.error, "serialization"
        if operation.body is not None:
            yield operation.body, "validation"
        for answer in operation.answers:
            for kind in (answer.json, answer.frames):
                if kind is not None:
                    yield kind, "serialization"


def _describe(operation: Operation, references: dict[tuple[Any, _Mode], _Json]) -> _Json:
    def json(kind: Any, mode: _Mode = "serialization") -> _Json:
        return {"application/json": {"schema": references[kind, mode]}}

    def content(answer: Answer) -> _Json:
        found: _Json = {} if answer.json is None else json(answer.json)
        if answer.frames is not None:
            frames: _Json = {"type": "string"}
            if answer.frames is not str:
                frames["description"] = f"Each `data:` frame is a {answer.frames.__name__}."
            found["text/event-stream"] = {"schema": frames}
        return found

    described: _Json = {"operationId": operation.name, "summary": operation.summary}
    if "{model_id}" in operation.path:
        described["parameters"] = [_MODEL_ID]
    if "{response_id}" in operation.path:
        described["parameters"] = [_RESPONSE_ID]
    if operation.body is not None:
        body = json(operation.body, "validation")
        described["requestBody"] = {"required": True, "content": body}
    described["responses"] = {
        str(a.status): {"description": a.description, "content": content(a)}
        for a in operation.answers
    } | {
        str(status): {"description": _WHY[status], "content": json(operation.error)}
        for status in operation.errors
    }
    return described
