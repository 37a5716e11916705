"""The routes that show tokens: `/tokenize` and `/detokenize`."""

from __future__ import annotations

import time
import uuid
from dataclasses import replace
from typing import Any, Literal, TypeVar

from pydantic import TypeAdapter, ValidationError

from llm_serve.api.parsing.allowlist import KINDS, Fields, model_of
from llm_serve.api.parsing.by_engine import parse_for_engine
from llm_serve.api.parsing.conversation import conversation_of
from llm_serve.api.parsing.explain import explain
from llm_serve.api.schemas.requests import ChatRequest
from llm_serve.api.schemas.tokens import (
    DetokenizeRequest,
    TokenizeChatRequest,
    TokenizeRequest,
    TokenizeTextRequest,
)
from llm_serve.backends import CAPABILITIES
from llm_serve.config import Config, ModelConfig
from llm_serve.errors import InvalidRequest
from llm_serve.generation.request import GenerationRequest
from llm_serve.sampling import Conversation, Sampling

TOKENIZE, DETOKENIZE = "/tokenize", "/detokenize"
_TOKENIZE: TypeAdapter[TokenizeTextRequest | TokenizeChatRequest] = TypeAdapter(TokenizeRequest)
_DETOKENIZE = TypeAdapter(DetokenizeRequest)
_Body = TypeVar("_Body")


def parse_tokenize(fields: Fields, config: Config) -> GenerationRequest:
    """The request of `POST /tokenize`. Raises InvalidRequest and its children."""
    model = model_of(fields, config, KINDS)
    if CAPABILITIES[model.backend].extensions:
        return parse_for_engine(TOKENIZE, "tokenize")(fields, config)
    body = _read(_TOKENIZE, fields)
    shows = {"strings": body.return_token_strs}
    if isinstance(body, TokenizeTextRequest):
        shows["special"] = body.add_special_tokens
        return _request("tokenize", model, prompts=(body.prompt,), echo=shows)
    return _request("tokenize", model, conversation=_conversation(body, model), echo=shows)


def parse_detokenize(fields: Fields, config: Config) -> GenerationRequest:
    """The request of `POST /detokenize`. Raises InvalidRequest and its children."""
    model = model_of(fields, config, KINDS)
    if CAPABILITIES[model.backend].extensions:
        return parse_for_engine(DETOKENIZE, "tokenize")(fields, config)
    body = _read(_DETOKENIZE, fields)
    return _request("detokenize", model, prompts=(tuple(body.tokens),))


def _conversation(body: TokenizeChatRequest, model: ModelConfig) -> Conversation:
    chat = ChatRequest.model_construct(
        messages=body.messages,
        tools=body.tools,
        chat_template_kwargs=body.chat_template_kwargs,
    )
    conversation = conversation_of(chat, model)
    if body.continue_final_message:
        if body.add_generation_prompt:
            raise InvalidRequest(
                "continue_final_message and add_generation_prompt exclude each other.",
                param="continue_final_message",
            )
        return replace(conversation, ending="continued")
    if body.add_generation_prompt is False:
        return replace(conversation, ending="none")
    return conversation


def _read(schema: TypeAdapter[_Body], fields: Fields) -> _Body:
    try:
        return schema.validate_python(fields)
    except ValidationError as error:
        raise explain(error) from None


def _request(
    kind: Literal["tokenize", "detokenize"], model: ModelConfig, **asked: Any
) -> GenerationRequest:
    return GenerationRequest(
        id=f"{kind}-{uuid.uuid4().hex}",
        kind=kind,
        model=model.id,
        created=int(time.time()),
        sampling=Sampling(),
        **asked,
    )
