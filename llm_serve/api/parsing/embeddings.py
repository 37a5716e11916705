"""From the body of `POST /v1/embeddings` to a request, or to a 400."""

from __future__ import annotations

import time
import uuid

from pydantic import ValidationError

from llm_serve.api.parsing.allowlist import Fields, model_of
from llm_serve.api.parsing.by_engine import parse_for_engine
from llm_serve.api.parsing.explain import explain
from llm_serve.api.schemas.embeddings import EmbeddingRequest
from llm_serve.backends import CAPABILITIES
from llm_serve.config import Config
from llm_serve.errors import InvalidRequest
from llm_serve.generation.request import INPUTS_A_PLACE, GenerationRequest, Vectors
from llm_serve.sampling import Sampling

EMBEDDINGS = "/v1/embeddings"
_by_engine = parse_for_engine(EMBEDDINGS, "embeddings")


def parse_embedding(fields: Fields, config: Config) -> GenerationRequest:
    """Raises InvalidRequest and its children."""
    model = model_of(fields, config, kind="embedding")
    if CAPABILITIES[model.backend].extensions:
        return _by_engine(fields, config)
    try:
        body = EmbeddingRequest.model_validate(fields)
    except ValidationError as error:
        raise explain(error) from None
    request = GenerationRequest(
        id=f"embd-{uuid.uuid4().hex}",
        kind="embedding",
        model=model.id,
        created=int(time.time()),
        sampling=Sampling(),
        prompts=body.inputs(),
        vectors=Vectors(body.dimensions, body.encoding_format == "base64"),
    )
    most = model.max_running + model.max_queued
    if request.sequences > most:
        raise InvalidRequest(
            f"input: {len(request.prompts)} inputs are more than {model.id} runs and queues, which "
            f"is {most * INPUTS_A_PLACE}; split the request, or raise max_queued.",
            param="input",
        )
    return request
