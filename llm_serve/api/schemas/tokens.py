"""The bodies and the answers of `/tokenize` and `/detokenize`, which are vLLM's."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from llm_serve.api.schemas.chat.tools import ToolList
from llm_serve.api.schemas.chat.turns import Message
from llm_serve.api.schemas.states import Closed, Count
from llm_serve.api.schemas.values import MAX_MESSAGES, Body, FewKeys, TokenId

MAX_TEXT = 2**20
"""Characters of a text that is tokenized: their tokens are sent back one by one."""


class TokenizeRequest(Body):
    """The body of `POST /tokenize`: a `prompt`, or `messages` as for a chat."""

    model: str | None = Field(None, description="A model of `/v1/models`; left out: the first.")
    prompt: Annotated[str, Field(max_length=MAX_TEXT)] | None = None
    messages: (
        Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)]
        | None
    ) = None
    add_special_tokens: bool | None = Field(
        None, description="Of a `prompt`; left out: true. A chat template adds them by itself."
    )
    return_token_strs: bool = False
    add_generation_prompt: bool | None = Field(None, description="Left out: true.")
    continue_final_message: bool | None = None
    tools: ToolList | None = None
    chat_template_kwargs: FewKeys[Any] | None = None


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
