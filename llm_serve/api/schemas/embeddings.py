"""The body and the answer of `POST /v1/embeddings`, as OpenAI has them."""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from pydantic import Discriminator, Field

from llm_serve.api.schemas.states import Closed, Count
from llm_serve.api.schemas.values import (
    MANY,
    NEITHER,
    TEXT,
    TEXTS,
    TOKENS,
    Body,
    TokenIds,
    by_first,
)

MAX_INPUTS = 2048
"""OpenAI's bound."""

_Value = TypeVar("_Value")
_Text = Annotated[str, Field(min_length=1)]
_Inputs = Annotated[list[_Value], Field(min_length=1, max_length=MAX_INPUTS, fail_fast=True)]
EmbeddingInput = Annotated[
    Annotated[_Text, TEXT]
    | Annotated[TokenIds, TOKENS]
    | Annotated[_Inputs[_Text], TEXTS]
    | Annotated[_Inputs[TokenIds], MANY],
    Discriminator(by_first, **NEITHER),
]


class EmbeddingRequest(Body):
    """The body of `POST /v1/embeddings`."""

    model: str | None = Field(None, description="A model of `/v1/models`; left out: the first.")
    input: EmbeddingInput = Field(description="Texts, or token ids of the model's own tokenizer.")
    encoding_format: Literal["float", "base64"] = Field(
        "float", description="base64: of little-endian float32."
    )
    dimensions: int | None = Field(
        None, ge=1, le=2**31 - 1, description="The first so many numbers of each vector."
    )
    user: str | None = Field(None, description="Accepted; has no effect.")

    def inputs(self) -> tuple[str | tuple[int, ...], ...]:
        """Texts or token ids, one an element."""
        given = self.input
        if isinstance(given, str):
            return (given,)
        if isinstance(given[0], int):
            return (tuple(one for one in given if isinstance(one, int)),)
        return tuple(
            one if isinstance(one, str) else tuple(one) for one in given if not isinstance(one, int)
        )


class EmbeddingObject(Closed):
    """The vector of one input: its numbers, or base64 of them."""

    object: Literal["embedding"]
    index: Count
    embedding: list[float] | str


class EmbeddingUsage(Closed):
    """Counts of tokens; there are none but those of the inputs."""

    prompt_tokens: Count
    total_tokens: Count


class EmbeddingList(Closed):
    """The vectors in the order of the inputs."""

    object: Literal["list"]
    data: Annotated[list[EmbeddingObject], Field(min_length=1)]
    model: str
    usage: EmbeddingUsage
