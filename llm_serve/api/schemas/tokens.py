"""The bodies and the answers of `/tokenize` and `/detokenize`, which are vLLM's."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Discriminator, Field

from llm_serve.api.schemas.chat.tools import ToolList
from llm_serve.api.schemas.chat.turns import Message
from llm_serve.api.schemas.states import Closed, Count
from llm_serve.api.schemas.values import (
    MANY,
    MAX_MESSAGES,
    TEXT,
    Body,
    FewKeys,
    Off,
    TokenId,
)

MAX_TEXT = 2**20
"""Characters of a text that is tokenized: their tokens are sent back one by one."""


class _Tokenized(Body):
    model: str | None = Field(None, description="A model of `/v1/models`; left out: the first.")
    return_token_strs: bool = False


class TokenizeTextRequest(_Tokenized):
    """The body of `POST /tokenize` for a text."""

    prompt: Annotated[str, Field(max_length=MAX_TEXT)]
    add_special_tokens: bool = True


class TokenizeChatRequest(_Tokenized):
    """The body of `POST /tokenize` for a chat, whose template adds what special tokens it has."""

    messages: list[Message] = Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)
    add_special_tokens: Off = False
    add_generation_prompt: bool | None = Field(None, description="Left out: true.")
    continue_final_message: bool = False
    tools: ToolList | None = None
    chat_template_kwargs: FewKeys[Any] | None = None


def _by_presence(value: Any) -> str:
    chat = isinstance(value, dict) and value.get("messages") is not None
    return (MANY if chat else TEXT).tag


TokenizeRequest = Annotated[
    Annotated[TokenizeTextRequest, TEXT] | Annotated[TokenizeChatRequest, MANY],
    Discriminator(_by_presence),
]
"""The body of `POST /tokenize`."""


class DetokenizeRequest(Body):
    """The body of `POST /detokenize`."""

    model: str | None = Field(None, description="A model of `/v1/models`; left out: the first.")
    tokens: Annotated[list[TokenId], Field(max_length=131_072, fail_fast=True)]


class TokenizeAnswer(Closed):
    """Token ids, and what the tokenizer calls each where that was asked for."""

    count: Count
    max_model_len: Count
    tokens: list[Count]
    token_strs: list[str] | None


class DetokenizeAnswer(Closed):
    """The text of the tokens."""

    prompt: str
