"""`/openapi.json`: exactly the routes of the app, from the schemas that validate requests."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

from pydantic.json_schema import models_json_schema

from llm_serve import __version__
from llm_serve.api.schemas.engine_requests import EngineChatRequest, EngineCompletionRequest
from llm_serve.api.schemas.requests import ChatRequest, CompletionRequest, GuidedChatRequest

_REF = "#/components/schemas/{model}"
_WHY = {
    400: "Invalid request, unknown model, prompt too long or unsupported parameter",
    401: "An API key is needed",
    403: "The API key, the web page's origin or the host name is not accepted",
    404: "No such route",
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
_ACCEPTED = "The model is loading; send the same request again after `Retry-After` seconds"
_Json = dict[str, Any]


ENGINE_ROUTES = {
    "/v1/embeddings": "embeddings",
    "/v1/responses": "responses",
    "/v1/messages": "messages",
    "/v1/messages/count_tokens": "messages",
    "/tokenize": "tokenize",
    "/detokenize": "tokenize",
}
"""Routes that an engine's own server answers, and the capability that each needs."""


@cache
def document(extended: bool = False, guided: bool = False) -> _Json:
    """OpenAPI 3.1. `extended` where a model's engine brings a server of its own: then bodies may
    hold its fields too, and its routes are there; `guided` where one can be held to JSON."""
    chat, text = (
        (EngineChatRequest, EngineCompletionRequest)
        if extended
        else (GuidedChatRequest if guided else ChatRequest, CompletionRequest)
    )
    _, definitions = models_json_schema(
        [(chat, "validation"), (text, "validation")], ref_template=_REF
    )
    bodies = _null_is_absent(definitions["$defs"])
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "llm-serve",
            "version": __version__,
            "description": "OpenAI-compatible chat and text completions over many models.",
        },
        "paths": {
            "/healthz": {"get": _read("healthz", "How the server is", "Health", (500,))},
            "/v1/models": {"get": _read("list_models", "The allowlisted models", "ModelList")},
            "/v1/models/{model_id}": {
                "get": {
                    **_read("get_model", "One model", "Model", (400, 401, 403, 404, 500)),
                    "parameters": [_MODEL_ID],
                }
            },
            "/v1/models/{model_id}/load": {
                "post": _operate("load_model", "Load a model", 200, "It is loaded")
            },
            "/v1/models/{model_id}/unload": {
                "post": _operate("unload_model", "Unload a model", 202, "It is leaving")
            },
            "/v1/events": {"get": _events()},
            "/v1/chat/completions": {
                "post": _generate("create_chat_completion", chat.__name__, "ChatCompletion")
            },
            "/v1/completions": {
                "post": _generate("create_completion", text.__name__, "Completion")
            },
            **({path: {"post": _by_engine(path)} for path in ENGINE_ROUTES} if extended else {}),
            "/openapi.json": {"get": _read("openapi", "This document", "Document", (500,))},
        },
        "components": {
            "schemas": {**bodies, **_ANSWERS, **(_ENGINE_ANSWERS if extended else {})},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"key": []}],
    }


def _null_is_absent(bodies: _Json) -> _Json:
    """Optional fields may be null too, as `llm_serve.api.schemas.openai` has it for every one."""
    for schema in bodies.values():
        for name, field in schema.get("properties", {}).items():
            if name not in schema.get("required", ()) and {"type": "null"} not in field.get(
                "anyOf", ()
            ):
                notes = {k: field.pop(k) for k in ("title", "description", "default") if k in field}
                schema["properties"][name] = {"anyOf": [field, {"type": "null"}], **notes}
    return bodies


def _ref(name: str) -> _Json:
    return {"$ref": _REF.format(model=name)}


def _json(name: str) -> _Json:
    return {"application/json": {"schema": _ref(name)}}


def _errors(statuses: tuple[int, ...]) -> _Json:
    return {str(s): {"description": _WHY[s], "content": _json("ErrorResponse")} for s in statuses}


def _read(
    operation: str, summary: str, schema: str, errors: tuple[int, ...] = (401, 403, 500)
) -> _Json:
    return {
        "operationId": operation,
        "summary": summary,
        "responses": {
            "200": {"description": summary, "content": _json(schema)},
            **_errors(errors),
        },
    }


_MODEL_ID: _Json = {
    "name": "model_id",
    "in": "path",
    "required": True,
    "description": "May contain `/`.",
    "schema": {"type": "string", "minLength": 1},
}


def _operate(operation: str, summary: str, status: int, done: str) -> _Json:
    """A verb on one model: the model afterwards, or for a load that takes time the 202."""
    responses = {str(status): {"description": done, "content": _json("Model")}}
    if status == 200:
        responses["202"] = {"description": _ACCEPTED, "content": _json("ModelLoad")}
    return {
        "operationId": operation,
        "summary": summary,
        "parameters": [_MODEL_ID],
        "responses": {**responses, **_errors((400, 401, 403, 404, 409, 500, 503))},
    }


def _events() -> _Json:
    stream = {"text/event-stream": {"schema": {"type": "string"}}}
    return {
        "operationId": "events",
        "summary": "Every change of state, as server-sent events; the whole state first",
        "responses": {
            "200": {"description": "Does not end by itself", "content": stream},
            **_errors((401, 403, 500)),
        },
    }


def _generate(operation: str, request: str, answer: str) -> _Json:
    stream = {"text/event-stream": {"schema": {"type": "string"}}}
    return {
        "operationId": operation,
        "requestBody": {"required": True, "content": _json(request)},
        "responses": {
            "200": {
                "description": "The answer; `stream: true` gives `data:` frames, then `[DONE]`",
                "content": {**_json(answer), **stream},
            },
            "202": {"description": _ACCEPTED, "content": _json("ModelLoad")},
            **_errors(tuple(s for s in _WHY if s != 404)),
        },
    }


def _by_engine(path: str) -> _Json:
    """A route whose bodies the engine defines; ours are the model, the queue and the errors."""
    operation = path.removeprefix("/v1/").strip("/").replace("/", "_")
    return _generate(operation, "EngineRequest", "EngineAnswer")


def _object(required: _Json, optional: _Json | None = None, more: bool = False) -> _Json:
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": more,
    }


_TEXT: _Json = {"type": "string"}
_COUNT: _Json = {"type": "integer", "minimum": 0}
_TEXT_OR_NULL: _Json = {"type": ["string", "null"]}
_NUMBER_OR_NULL: _Json = {"type": ["number", "null"]}
_FINISH: _Json = {"enum": ["stop", "length"]}
_LOGPROBS: _Json = {"type": ["object", "null"]}
_MODEL_STATES = ["unloaded", "queued", "loading", "ready", "draining", "failed"]


def _completion(kind: str, choice: _Json) -> _Json:
    return _object(
        {
            "id": _TEXT,
            "object": {"const": kind},
            "created": _COUNT,
            "model": _TEXT,
            "choices": {"type": "array", "minItems": 1, "items": choice},
            "usage": _ref("Usage"),
        }
    )


def _opened(name: str) -> _Json:
    """The completion with whatever members the engine adds."""
    answer: _Json = copy.deepcopy(_ANSWERS[name])
    answer["additionalProperties"] = True
    choice = answer["properties"]["choices"]["items"]
    choice["additionalProperties"] = True
    choice["properties"]["finish_reason"] = _TEXT_OR_NULL
    if "message" in choice["properties"]:
        message = choice["properties"]["message"]
        message["additionalProperties"] = True
        message["properties"] |= {"content": _TEXT_OR_NULL, "refusal": _TEXT_OR_NULL}
    answer["properties"]["usage"] = {"type": "object"}
    return answer


_ANSWERS: _Json = {
    "ErrorResponse": _object(
        {
            "error": _object(
                {"message": _TEXT, "type": _TEXT, "param": _TEXT_OR_NULL, "code": _TEXT_OR_NULL}
            )
        },
        {"loading": _ref("ModelLoad")},
    ),
    "ModelLoad": _object(
        {
            "object": {"const": "model.load"},
            "status": {"const": "spinning_up"},
            "model": _TEXT,
            "current_model": _TEXT_OR_NULL,
            "retry_after_seconds": {"type": "integer", "minimum": 1},
            "eta_seconds": _NUMBER_OR_NULL,
        },
        {
            "stage": _TEXT_OR_NULL,
            "progress": _NUMBER_OR_NULL,
            "position": {"type": ["integer", "null"]},
        },
    ),
    "Usage": _object(
        {"prompt_tokens": _COUNT, "completion_tokens": _COUNT, "total_tokens": _COUNT}
    ),
    "ChatCompletion": _completion(
        "chat.completion",
        _object(
            {
                "index": _COUNT,
                "message": _object(
                    {"role": {"const": "assistant"}, "content": _TEXT, "refusal": {"type": "null"}}
                ),
                "logprobs": _LOGPROBS,
                "finish_reason": _FINISH,
            }
        ),
    ),
    "Completion": _completion(
        "text_completion",
        _object({"index": _COUNT, "text": _TEXT, "logprobs": _LOGPROBS, "finish_reason": _FINISH}),
    ),
    "Model": _object(
        {
            "id": _TEXT,
            "object": {"const": "model"},
            "created": _COUNT,
            "owned_by": _TEXT,
            "status": {"enum": _MODEL_STATES},
            "loaded": {"type": "boolean"},
            "backend": _TEXT,
            "capabilities": {"type": "object", "additionalProperties": {"type": "boolean"}},
        },
        more=True,
    ),
    "ModelList": _object(
        {"object": {"const": "list"}, "data": {"type": "array", "items": _ref("Model")}}
    ),
    "Health": _object(
        {
            "status": {"enum": ["starting", "ok", "switching", "degraded", "draining"]},
            "loaded": {"type": "boolean"},
            "model_id": _TEXT,
            "inference_backend": _TEXT,
            "queue_depth": _COUNT,
            "switch_in_progress": {"type": "boolean"},
            "switch_target_model": _TEXT_OR_NULL,
        },
        more=True,
    ),
    "Document": {"type": "object"},
}

_ENGINE_ANSWERS: _Json = {
    "EngineRequest": _object(
        {}, {"model": _TEXT_OR_NULL, "stream": {"type": ["boolean", "null"]}}, more=True
    ),
    "EngineAnswer": {"type": "object"},
    "ChatCompletion": _opened("ChatCompletion"),
    "Completion": _opened("Completion"),
}
"""Where the engine's own server may answer: tool calls, reasoning, more reasons to finish."""
