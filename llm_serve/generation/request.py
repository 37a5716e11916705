"""What crosses from the ingress to a model's replica: one validated request, ready to run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from llm_serve.sampling import Conversation, Sampling

Kind = Literal["chat", "completion", "engine", "embedding", "rerank", "tokenize", "detokenize"]
Dialect = Literal["chat", "responses", "messages"]
"""In which protocol a chat is answered: OpenAI's chat completions or Responses, Anthropic's
Messages."""


INPUTS_A_PLACE = 16
"""So many inputs of an embedding model take one place: each is one pass over its tokens, where an
answer is one pass for every token of its own. The 2048 that OpenAI's clients may send at once fit
into the places that a model has by default."""


@dataclass(frozen=True, slots=True)
class Vectors:
    """How embeddings are wanted: cut to `dimensions`, and as base64 of little-endian float32 or as
    numbers."""

    dimensions: int | None = None
    base64: bool = False


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One request of one client, which may ask for several answers. It is sent by pickle.

    A `completion` has `prompts`, texts or token ids, and so has an `embedding`, with how its
    `vectors` are wanted; of a `rerank` the first is the query. A `chat` has a `conversation`.
    `tokenize` has either, `detokenize` has token ids; both generate nothing. An `engine` request
    goes to the engine's own server as it came: it has the `body`, its JSON, which holds `inputs`
    prompts.
    """

    id: str
    """What the answer is called."""
    kind: Kind
    model: str
    """The model whose replica runs it."""
    created: int
    """Unix seconds."""
    sampling: Sampling
    conversation: Conversation | None = None
    prompts: tuple[str | tuple[int, ...], ...] = ()
    n: int = 1
    """Answers to each prompt."""
    vectors: Vectors | None = None
    stream: bool = False
    include_usage: bool = False
    """Whether a stream ends with a chunk that counts its tokens."""
    dialect: Dialect = "chat"
    echo: dict[str, Any] = field(default_factory=dict, hash=False)
    """What the answer repeats of the request, as its dialect wants it; JSON."""
    path: str = ""
    """The route, where errors look different there, and for an `engine` request."""
    body: bytes = b""
    inputs: int = 1

    @property
    def answers_as(self) -> str:
        """The model that the answer names: the adapter, where one was asked for."""
        return self.sampling.adapter or self.model

    @property
    def prompt_field(self) -> str:
        """What the route calls the prompt."""
        if self.kind == "embedding" or self.dialect == "responses":
            return "input"
        return "messages" if self.kind == "chat" else "prompt"

    @property
    def sequences(self) -> int:
        """How many answers the engine generates, `n` to each prompt; for as many the request takes
        places."""
        if self.kind in ("embedding", "rerank"):
            inputs = len(self.prompts) - (self.kind == "rerank")  # the query is no input
            return -(-inputs // INPUTS_A_PLACE)
        return self.n * (len(self.prompts) or self.inputs)

    @property
    def size(self) -> int:
        """How much there is to move and to tokenize: characters, token ids and numbers."""
        sampling = self.sampling
        texts = sum(map(len, sampling.stop)) + 2 * len(sampling.logit_bias)
        if (chat := self.conversation) is not None:
            texts += sum(map(_size, chat.messages)) + _size(chat.template)
            texts += 0 if chat.tools is None else sum(map(_size, chat.tools.functions))
        if sampling.guide is not None:
            texts += len(sampling.guide.text)
        texts += sum(len(prompt) for prompt in self.prompts) + _size(self.echo)
        return texts + len(self.body)


def _size(value: Any) -> int:
    """Characters of all texts in a JSON value, keys included, and one for each other value."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(len(key) + _size(one) for key, one in value.items())
    return sum(map(_size, value)) if isinstance(value, list | tuple) else 1
