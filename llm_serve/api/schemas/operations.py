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
from llm_serve.api.schemas.messages.answers import (
    MessagesAnswer,
    MessagesErrorResponse,
    MessagesEvent,
    TokenCount,
)
from llm_serve.api.schemas.messages.requests import (
    CountTokensRequest,
    EngineCountTokensRequest,
    EngineMessagesRequest,
    MessagesRequest,
)
from llm_serve.api.schemas.requests import ChatRequest, CompletionRequest
from llm_serve.api.schemas.responses.answer import DeletedResponse, ResponseEvent, ResponseObject
from llm_serve.api.schemas.responses.request import EngineResponsesRequest, ResponsesRequest
from llm_serve.api.schemas.states import (
    ErrorResponse,
    Health,
    ModelList,
    ModelLoad,
    ModelObject,
    StateEvent,
)
from llm_serve.api.schemas.tokens import (
    DetokenizeAnswer,
    DetokenizeRequest,
    TokenizeAnswer,
    TokenizeRequest,
)


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
    """One route. `body` is the type of what it is sent, `errors` the statuses of its errors, which
    are of the type `error`."""

    name: str
    method: Literal["GET", "POST", "DELETE"]
    path: str
    summary: str
    answers: tuple[Answer, ...]
    errors: tuple[int, ...]
    body: Any = None
    error: Any = ErrorResponse


_READ = (401, 403, 500)
_OPERATE = (400, 401, 403, 404, 409, 500, 503)
_GENERATE = (400, 401, 403, 408, 409, 413, 429, 431, 500, 502, 503, 504)
_STORED = (400, 401, 403, 404, 500, 503)
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
        _read("get_model", "/v1/models/{model_id}", "One model", ModelObject, (404, *_READ)),
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
        *_messages(extended),
        *_tokens(extended),
        Operation(
            "create_response",
            "POST",
            "/v1/responses",
            "A turn of a conversation",
            (
                Answer(
                    200,
                    "The answer; `stream: true` gives events",
                    ResponseObject,
                    ResponseEvent,
                ),
                _LOADING,
            ),
            _GENERATE,
            EngineResponsesRequest if extended else ResponsesRequest,
        ),
        Operation(
            "get_response",
            "GET",
            "/v1/responses/{response_id}",
            "A stored response",
            (Answer(200, "As it was answered", ResponseObject),),
            _STORED,
        ),
        Operation(
            "delete_response",
            "DELETE",
            "/v1/responses/{response_id}",
            "Delete a stored response",
            (Answer(200, "It is stored no more", DeletedResponse),),
            _STORED,
        ),
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


def _messages(extended: bool) -> tuple[Operation, ...]:
    """Anthropic's routes, with its errors."""
    body: Any = EngineMessagesRequest if extended else MessagesRequest
    counted: Any = EngineCountTokensRequest if extended else CountTokensRequest
    done = Answer(200, "The answer; `stream: true` gives events", MessagesAnswer, MessagesEvent)
    count = Answer(200, "The tokens of the prompt", TokenCount)
    return (
        Operation(
            "count_message_tokens",
            "POST",
            "/v1/messages/count_tokens",
            "How long a prompt of Messages is",
            (count, _LOADING),
            _GENERATE,
            counted,
            MessagesErrorResponse,
        ),
        Operation(
            "create_message",
            "POST",
            "/v1/messages",
            "A chat, in Anthropic's protocol",
            (done, _LOADING),
            _GENERATE,
            body,
            MessagesErrorResponse,
        ),
    )


def _tokens(extended: bool) -> tuple[Operation, ...]:
    """The routes that show tokens; what a model's engine has more of is the engine's to say."""
    there: Any = EngineRequest if extended else TokenizeRequest
    back: Any = EngineRequest if extended else DetokenizeRequest
    tokens: Any = EngineAnswer if extended else TokenizeAnswer
    text: Any = EngineAnswer if extended else DetokenizeAnswer
    return tuple(
        Operation(
            path.removeprefix("/"),
            "POST",
            path,
            summary,
            (Answer(200, summary, answer), _LOADING),
            _GENERATE,
            body,
        )
        for path, summary, body, answer in (
            ("/tokenize", "The tokens of a text or a chat", there, tokens),
            ("/detokenize", "The text of tokens", back, text),
        )
    )
