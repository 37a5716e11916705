"""Our own types of answers, against which every response of the tests is held, strictly."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from llm_serve.api.schemas import answers as types
from llm_serve.api.schemas import states
from llm_serve.api.schemas.embeddings import EmbeddingList, Reranking
from llm_serve.api.schemas.messages import answers as messages
from llm_serve.api.schemas.responses import answer as response_types

ENGINE_MODELS = ("smol", "smol-louder", "small/vllm", "small/cramped", "small/pools")
"""Those of tests/vllm, whose engine's own server may answer, with members of its own."""
_WHOLE = {
    "model.load": states.ModelLoad,
    "model": states.ModelObject,
    "event": states.StateEvent,
    "chat.completion": types.ChatCompletion,
    "text_completion": types.Completion,
}
_BY_ENGINE = {
    "chat.completion": types.EngineChatCompletion,
    "text_completion": types.EngineCompletion,
}
_FRAMES = {
    "chat.completion.chunk": types.ChatCompletionChunk,
    "text_completion": types.CompletionChunk,
}


def check(kind: Any, raw: bytes | str) -> None:
    """Fails unless the JSON is exactly of this type: nothing missing, nothing more."""
    try:
        _adapter(kind).validate_json(raw)
    except ValidationError as error:
        raise AssertionError(f"not a {kind.__name__}: {error}") from None


def kind_of(path: str, body: Any) -> Any:
    """The type of a whole answer of a route; None where the engine defines it, or where a test has
    a server of its own behind the door."""
    if not isinstance(body, dict):
        return None
    if body.get("object") == "response":
        return (
            response_types.DeletedResponse if "deleted" in body else response_types.ResponseObject
        )
    if "error" in body:
        of_messages = path.endswith(("/v1/messages", "/v1/messages/count_tokens"))
        return messages.MessagesErrorResponse if of_messages else states.ErrorResponse
    if body.get("type") == "message":
        return messages.MessagesAnswer
    name = body.get("object", "")
    if path.endswith("/healthz") and "model_id" in body:
        return states.Health
    if path.endswith("/v1/models") and name == "list":
        return states.ModelList
    if path.endswith("/v1/embeddings") and body.get("model") not in ENGINE_MODELS:
        return EmbeddingList
    if path.endswith("/v1/rerank") and body.get("model") not in ENGINE_MODELS:
        return Reranking
    by_engine = body.get("model") in ENGINE_MODELS and name in _BY_ENGINE
    return (_BY_ENGINE if by_engine else _WHOLE).get(name)


def kind_of_frame(value: dict[str, Any]) -> Any:
    """The type of one `data:` frame; None where the engine defines it."""
    if "error" in value:
        return states.ErrorResponse
    if value.get("model") in ENGINE_MODELS:
        return None
    return _FRAMES.get(value.get("object", ""))


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
