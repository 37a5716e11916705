"""Answers to requests that only want to see tokens, or to count them."""

from __future__ import annotations

import asyncio
from typing import cast

from llm_serve.backends.base import Backend, TokenBackend
from llm_serve.generation.encoding import LONG_TEXT, encode
from llm_serve.generation.request import GenerationRequest
from llm_serve.wire import to_json


async def tokenize(backend: Backend, request: GenerationRequest) -> bytes:
    """The tokens of a conversation or a text as JSON; how many, in the Messages dialect. Raises
    InvalidRequest."""
    tokens = cast(TokenBackend, backend).tokens
    if request.conversation is not None:
        token_ids = (await encode(backend, request))[0].token_ids
    else:
        text = cast(str, request.prompts[0])
        if len(text) > LONG_TEXT:
            token_ids = await asyncio.to_thread(tokens.encode, text, request.echo["special"])
        else:
            token_ids = tokens.encode(text, request.echo["special"])
    if request.dialect == "messages":
        return to_json({"input_tokens": len(token_ids)})
    return to_json(
        {
            "count": len(token_ids),
            "max_model_len": tokens.context_length,
            "tokens": token_ids,
            "token_strs": tokens.names(token_ids) if request.echo["strings"] else None,
        }
    )


async def detokenize(backend: Backend, request: GenerationRequest) -> bytes:
    """The text of tokens as JSON. Raises InvalidRequest."""
    token_ids = cast("tuple[int, ...]", request.prompts[0])
    return to_json({"prompt": cast(TokenBackend, backend).tokens.decode(token_ids)})
