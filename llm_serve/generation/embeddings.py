"""Requests to models that do not generate: vectors of the inputs, as OpenAI's JSON; documents by
how well they answer a query, as Jina's and Cohere's."""

from __future__ import annotations

import asyncio
import sys
from array import array
from base64 import b64encode
from typing import Any, cast

from llm_serve.backends.base import Backend, EmbeddingBackend
from llm_serve.errors import UnsupportedParameter
from llm_serve.generation.request import GenerationRequest, Vectors
from llm_serve.wire import to_json

_BREATH = 65_536
"""Numbers written without others getting their turn: some 30 ms."""


async def embed(backend: Backend, request: GenerationRequest) -> bytes:
    """The whole body. Raises ServeError."""
    if not hasattr(backend, "embed"):
        raise UnsupportedParameter(
            f"{request.model} generates text and gives no embeddings; name an embedding model, or "
            "configure this one with `kind: embedding`.",
            param="model",
        )
    wanted = request.vectors or Vectors()
    embedded = await cast(EmbeddingBackend, backend).embed(request.prompts, wanted.dimensions)
    pieces, written = [b'{"object":"list","data":['], 0
    for index, vector in enumerate(embedded.vectors):
        value = to_json(_base64(vector)) if wanted.base64 else numbers(vector)
        pieces += [b"," if index else b"", b'{"object":"embedding","index":', b"%d" % index]
        pieces += [b',"embedding":', value, b"}"]
        written += len(vector)
        if written > _BREATH:
            written = 0
            await asyncio.sleep(0)
    usage = {"prompt_tokens": embedded.tokens, "total_tokens": embedded.tokens}
    pieces += [b'],"model":', to_json(request.answers_as), b',"usage":', to_json(usage), b"}"]
    return b"".join(pieces)


async def rerank(backend: Backend, request: GenerationRequest) -> bytes:
    """The whole body, the best document first. Raises ServeError."""
    if not hasattr(backend, "rank"):
        raise UnsupportedParameter(
            f"{request.model} generates text and does not rank; name a model of the kind rerank or "
            "embedding.",
            param="model",
        )
    query, *documents = cast("tuple[str, ...]", request.prompts)
    ranked = await cast(EmbeddingBackend, backend).rank(query, tuple(documents))
    best = sorted(range(len(documents)), key=lambda index: -ranked.scores[index])
    results: list[dict[str, Any]] = [
        {"index": index, "relevance_score": ranked.scores[index]}
        for index in best[: request.echo["top_n"]]
    ]
    if request.echo["return_documents"]:
        for result in results:
            result["document"] = {"text": documents[result["index"]]}
    return to_json(
        {
            "id": request.id,
            "model": request.answers_as,
            "results": results,
            "usage": {"prompt_tokens": ranked.tokens, "total_tokens": ranked.tokens},
        }
    )


def numbers(vector: array[float]) -> bytes:
    """The vector as JSON. Nine digits tell any two float32 apart; those of the same value as a
    double are half as many again, and take twice the time and more."""
    return b"[" + ",".join(map("%.9g".__mod__, vector)).encode() + b"]"


def _base64(vector: array[float]) -> str:
    """Of its little-endian float32."""
    if sys.byteorder == "big":
        vector = array("f", vector)
        vector.byteswap()
    return b64encode(vector.tobytes()).decode()
