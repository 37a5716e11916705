"""The table of routes: what each takes and answers. The app serves exactly these, and
`/openapi.json` describes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from llm_serve.api.schemas.answers import (
    ChatCompletion,
    ChatCompletionChunk,
    Completion,
    CompletionChunk,
    EngineAnswer,
    EngineChatCompletion,
    EngineCompletion,
)
from llm_serve.api.schemas.embeddings import (
    EmbeddingList,
    EmbeddingRequest,
    Reranking,
    RerankRequest,
)
from llm_serve.api.schemas.engine_requests import (
    EngineChatRequest,
    EngineCompletionRequest,
    EngineRequest,
)
from llm_serve.api.schemas.requests import ChatRequest, CompletionRequest
from llm_serve.api.schemas.states import Health, ModelList, ModelLoad, ModelObject, StateEvent


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer. `json` is the type of its body where it is JSON; `frames` that of each
    `data:` frame where it may be server-sent events, `str` where the engine knows."""

    status: int
    description: str
    json: Any = None
    frames: Any = None


@dataclass(frozen=True, slots=True)
class Operation:
    """One route. `body` is the type of what it is sent, `errors` the statuses of its errors."""

    name: str
    method: Literal["GET", "POST"]
    path: str
    summary: str
    answers: tuple[Answer, ...]
    errors: tuple[int, ...]
    body: Any = None


ENGINE_ROUTES = {
    "/v1/responses": "responses",
    "/v1/messages": "messages",
    "/v1/messages/count_tokens": "messages",
    "/tokenize": "tokenize",
    "/detokenize": "tokenize",
}
"""Routes that an engine's own server answers, and the capability that each needs."""

_READ = (401, 403, 500)
_OPERATE = (400, 401, 403, 404, 409, 500, 503)
_GENERATE = (400, 401, 403, 408, 409, 413, 429, 431, 500, 502, 503, 504)
_LOADING = Answer(
    202, "The model is loading; send the same request again after `Retry-After` seconds", ModelLoad
)


def operations(extended: bool) -> tuple[Operation, ...]:
    """The routes, where a path that begins as another stands before it. `extended` where a model's
    engine brings a server of its own: then bodies may hold its fields too, and answers its members.
    """
    chat: Any = ChatRequest
    text: Any = CompletionRequest
    embeddings: Any = EmbeddingRequest
    embeddings_answer: Any = EmbeddingList
    rerank: Any = RerankRequest
    rerank_answer: Any = Reranking
    chat_answer: Any = ChatCompletion
    text_answer: Any = Completion
    if extended:
        chat, chat_answer = EngineChatRequest, EngineChatCompletion
        text, text_answer = EngineCompletionRequest, EngineCompletion
        embeddings, embeddings_answer = EngineRequest, EngineAnswer
        rerank, rerank_answer = EngineRequest, EngineAnswer
    return (
        _read("healthz", "/healthz", "How the server is", Health, (500,)),
        _read("list_models", "/v1/models", "The allowlisted models", ModelList),
        Operation(
            "load_model",
            "POST",
            "/v1/models/{model_id}/load",
            "Load a model",
            (Answer(200, "It is loaded", ModelObject), _LOADING),
            _OPERATE,
        ),
        Operation(
            "unload_model",
            "POST",
            "/v1/models/{model_id}/unload",
            "Unload a model",
            (Answer(202, "It is leaving", ModelObject),),
            _OPERATE,
        ),
        _read("get_model", "/v1/models/{model_id}", "One model", ModelObject, (400, 404, *_READ)),
        Operation(
            "events",
            "GET",
            "/v1/events",
            "Every change of state, as server-sent events; the whole state first",
            (Answer(200, "Does not end by itself", frames=StateEvent),),
            _READ,
        ),
        _generate(
            "create_chat_completion",
            "/v1/chat/completions",
            "A chat",
            chat,
            chat_answer,
            str if extended else ChatCompletionChunk,
        ),
        _generate(
            "create_completion",
            "/v1/completions",
            "A text to continue",
            text,
            text_answer,
            str if extended else CompletionChunk,
        ),
        Operation(
            "create_embedding",
            "POST",
            "/v1/embeddings",
            "Vectors of texts",
            (Answer(200, "The vectors", embeddings_answer), _LOADING),
            _GENERATE,
            embeddings,
        ),
        Operation(
            "rerank",
            "POST",
            "/v1/rerank",
            "Documents by how well they answer a query",
            (Answer(200, "The documents, the best first", rerank_answer), _LOADING),
            _GENERATE,
            rerank,
        ),
        *(_by_engine(path) for path in ENGINE_ROUTES),
        _read("openapi", "/openapi.json", "This document", dict[str, Any], (500,)),
    )


def _read(
    name: str, path: str, summary: str, answer: Any, errors: tuple[int, ...] = _READ
) -> Operation:
    return Operation(name, "GET", path, summary, (Answer(200, summary, answer),), errors)


def _generate(name: str, path: str, summary: str, body: Any, answer: Any, frames: Any) -> Operation:
    done = Answer(
        200, "The answer; `stream: true` gives `data:` frames, then `[DONE]`", answer, frames
    )
    return Operation(name, "POST", path, summary, (done, _LOADING), _GENERATE, body)


def _by_engine(path: str) -> Operation:
    """A route whose bodies the engine defines; ours are the model, the queue and the errors."""
    name = path.removeprefix("/v1/").strip("/").replace("/", "_")
    return _generate(name, path, "As the engine has it", EngineRequest, EngineAnswer, str)
