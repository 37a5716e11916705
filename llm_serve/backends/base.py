"""The seam between serving and engines: what a backend is given, what it yields, what it can do.

Nothing here imports an engine. A backend serves one model for the life of its process.
"""

from __future__ import annotations

from array import array
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

from llm_serve.chat import ChatFormat
from llm_serve.progress import ModelInfo, OnProgress
from llm_serve.sampling import Conversation, Delta, Prompt, Sampling


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do beyond messages, temperature, top_p, max_tokens, stop and stream."""

    chat: bool = True
    completions: bool = True
    n: bool = False
    seed: bool = False
    penalties: bool = False
    logit_bias: bool = False
    logprobs: bool = False
    top_logprobs: bool = False
    top_k: bool = False
    min_p: bool = False
    echo: bool = False
    tools: bool = False
    """Calls of functions; that a call is made can be enforced where `response_format` is too."""
    response_format: bool = False
    """Answers that must be JSON, or of another form."""
    images: bool = False
    reasoning: bool = False
    extensions: bool = False
    """The engine's own request fields, beyond OpenAI's."""
    embeddings: bool = False
    rerank: bool = False
    responses: bool = False
    messages: bool = False
    tokenize: bool = False
    adapters: bool = False


class Backend(Protocol):
    """One engine with one model.

    `load` runs once, before anything else, and may take minutes; it raises `LoadFailed` with a
    sentence for the person. `generate` raises `PromptTooLong` before its first delta, and any
    `ServeError` later; closing the iterator (`aclose`, or cancelling its task) aborts the sequence
    in the engine within a second. `check_health` raises when the engine can no longer answer.
    """

    chat_format: ChatFormat
    """How its model is told of tools and writes calls; there once it is loaded."""

    async def load(self, report: OnProgress) -> ModelInfo: ...

    def encode_chat(self, conversation: Conversation) -> Prompt: ...

    def encode_text(self, text: str) -> Prompt: ...

    def generate(self, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[Delta, None]: ...

    async def check_health(self) -> None: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Embedded:
    """What an embedding model made of the inputs of one request: a vector of each, float32, and
    how many tokens they had together."""

    vectors: list[array[float]]
    tokens: int


@dataclass(frozen=True, slots=True)
class Ranked:
    """How well each document answers the query, more being better, and how many tokens there
    were."""

    scores: list[float]
    tokens: int


class EmbeddingBackend(Backend, Protocol):
    """A backend whose model gives embeddings, or ranks; `generate` and `encode_chat` refuse.

    `embed` takes texts and token ids, and cuts the vectors to `dimensions`; a model that only ranks
    refuses it. Both raise PromptTooLong for an input that the model cannot take whole, and
    InvalidRequest; to cancel the task frees the inputs that wait.
    """

    async def embed(
        self, inputs: tuple[str | tuple[int, ...], ...], dimensions: int | None
    ) -> Embedded: ...

    async def rank(self, query: str, documents: tuple[str, ...]) -> Ranked: ...


class Tokens(Protocol):
    """What a tokenizer shows; see `llm_serve.backends.tokens`."""

    context_length: int

    def encode(self, text: str, special: bool) -> tuple[int, ...]: ...

    def names(self, token_ids: Sequence[int]) -> list[str]: ...

    def decode(self, token_ids: Sequence[int]) -> str: ...


class TokenBackend(Backend, Protocol):
    """A backend whose tokens may be seen, once it is loaded."""

    tokens: Tokens


class EngineServer(Backend, Protocol):
    """A backend whose engine brings a server of its own.

    `serve` runs one request on it: the body of an answer, or its server-sent events. It raises
    ServeError, before its first message or later; closing it aborts the request.
    """

    def serve(self, path: str, body: bytes) -> AsyncGenerator[bytes, None]: ...
