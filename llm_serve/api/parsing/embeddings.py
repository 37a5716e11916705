"""From the bodies of `POST /v1/embeddings` and `/v1/rerank` to a request, or to a 400."""

from __future__ import annotations

import time
import uuid
from typing import TypeVar

from pydantic import ValidationError

from llm_serve.api.parsing.allowlist import Fields, model_of
from llm_serve.api.parsing.by_engine import parse_for_engine
from llm_serve.api.parsing.explain import explain
from llm_serve.api.schemas.embeddings import EmbeddingRequest, RerankRequest
from llm_serve.api.schemas.values import Body
from llm_serve.backends import CAPABILITIES
from llm_serve.config import Config, ModelConfig
from llm_serve.errors import InvalidRequest
from llm_serve.generation.request import INPUTS_A_PLACE, GenerationRequest, Vectors
from llm_serve.sampling import Sampling

EMBEDDINGS, RERANK = "/v1/embeddings", "/v1/rerank"
_embedded_by_engine = parse_for_engine(EMBEDDINGS, "embeddings")
_ranked_by_engine = parse_for_engine(RERANK, "rerank")
_Body = TypeVar("_Body", bound=Body)


def parse_embedding(fields: Fields, config: Config) -> GenerationRequest:
    """Raises InvalidRequest and its children."""
    model = model_of(fields, config, ("embedding",))
    if CAPABILITIES[model.backend].extensions:
        return _embedded_by_engine(fields, config)
    body = _read(EmbeddingRequest, fields)
    request = GenerationRequest(
        id=f"embd-{uuid.uuid4().hex}",
        kind="embedding",
        model=model.id,
        created=int(time.time()),
        sampling=Sampling(),
        prompts=body.inputs(),
        vectors=Vectors(body.dimensions, body.encoding_format == "base64"),
    )
    return _bounded(request, model, "input")


def parse_rerank(fields: Fields, config: Config) -> GenerationRequest:
    """Raises InvalidRequest and its children."""
    model = model_of(fields, config, ("rerank", "embedding"))
    if CAPABILITIES[model.backend].extensions:
        return _ranked_by_engine(fields, config)
    body = _read(RerankRequest, fields)
    request = GenerationRequest(
        id=f"rerank-{uuid.uuid4().hex}",
        kind="rerank",
        model=model.id,
        created=int(time.time()),
        sampling=Sampling(),
        prompts=(body.query, *body.texts()),
        echo={"top_n": body.top_n, "return_documents": body.return_documents},
    )
    return _bounded(request, model, "documents")


def _read(schema: type[_Body], fields: Fields) -> _Body:
    try:
        return schema.model_validate(fields)
    except ValidationError as error:
        raise explain(error) from None


def _bounded(request: GenerationRequest, model: ModelConfig, param: str) -> GenerationRequest:
    """The request, where it can ever run. Raises InvalidRequest."""
    most = model.max_running + model.max_queued
    if request.sequences > most:
        raise InvalidRequest(
            f"{param}: so many texts are more than {model.id} runs and queues, which is "
            f"{most * INPUTS_A_PLACE}; split the request, or raise max_queued.",
            param=param,
        )
    return request
