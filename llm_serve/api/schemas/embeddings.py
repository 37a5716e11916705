"""The bodies and the answers of `POST /v1/embeddings`, as OpenAI has them, and of `/v1/rerank`, as
Jina, Cohere and vLLM have them."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired, TypeVar

from pydantic import Discriminator, Field

from llm_serve.api.schemas.states import Closed, Count
from llm_serve.api.schemas.values import (
    MANY,
    NEITHER,
    TEXT,
    TEXTS,
    TOKENS,
    TOOL,
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


class Document(Body):
    """A document, as Jina writes it."""

    text: _Text


AnyDocument = Annotated[
    Annotated[_Text, TEXT] | Annotated[Document, TOOL],
    Discriminator(lambda value: (TOOL if isinstance(value, dict) else TEXT).tag),
]


class RerankRequest(Body):
    """The body of `POST /v1/rerank`."""

    model: str | None = Field(None, description="A model of `/v1/models`; left out: the first.")
    query: _Text
    documents: _Inputs[AnyDocument]
    top_n: int | None = Field(None, ge=1, le=MAX_INPUTS, description="Only the best so many.")
    return_documents: bool = Field(True, description="Whether the results have the texts.")

    def texts(self) -> tuple[str, ...]:
        """Of the documents."""
        return tuple(one if isinstance(one, str) else one.text for one in self.documents)


class DocumentText(Closed):
    """A document that was sent."""

    text: str


class RerankResult(Closed):
    """One document, and how well it answers the query: more is better."""

    index: Count
    relevance_score: float
    document: NotRequired[DocumentText]


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


class Reranking(Closed):
    """The documents, the best first."""

    id: str
    model: str
    results: Annotated[list[RerankResult], Field(min_length=1)]
    usage: EmbeddingUsage
