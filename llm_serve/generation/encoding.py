"""The prompts of a request as tokens."""

from __future__ import annotations

import asyncio

from llm_serve.backends.base import Backend
from llm_serve.generation.request import GenerationRequest
from llm_serve.sampling import Prompt

LONG_TEXT = 20_000
"""Characters above which what is made of a request is made off the event loop."""


async def encode(backend: Backend, request: GenerationRequest) -> list[Prompt]:
    """One prompt of a conversation, else one of each text. Raises InvalidRequest."""
    if request.conversation is not None:
        if request.size > LONG_TEXT:
            return [await asyncio.to_thread(backend.encode_chat, request.conversation)]
        return [backend.encode_chat(request.conversation)]
    prompts = []
    for prompt in request.prompts:
        if not isinstance(prompt, str):
            prompts.append(Prompt(prompt))
        elif len(prompt) > LONG_TEXT:
            prompts.append(await asyncio.to_thread(backend.encode_text, prompt))
        else:
            prompts.append(backend.encode_text(prompt))
    return prompts
