"""What crosses from the ingress to a model's replica: one validated request, ready to run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from llm_serve.sampling import Sampling


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One request. `prompts` has texts or token ids; a chat has `messages` instead. What the
    engine's own server answers has `path` and `body`, its JSON."""

    id: str
    kind: Literal["chat", "completion", "engine"]
    model: str
    """The model whose replica runs it."""
    created: int
    """Unix seconds."""
    sampling: Sampling
    messages: tuple[dict[str, str], ...] = ()
    prompts: tuple[str | tuple[int, ...], ...] = ()
    n: int = 1
    stream: bool = False
    include_usage: bool = False
    path: str = ""
    body: bytes = b""
    inputs: int = 1
    """Prompts in `body`."""

    @property
    def answers_as(self) -> str:
        """The model that the answer names: the adapter, where one was asked for."""
        return self.sampling.adapter or self.model

    @property
    def sequences(self) -> int:
        """Answers that the engine generates: of each prompt `n`."""
        return self.n * (len(self.prompts) or self.inputs)

    @property
    def size(self) -> int:
        """Characters, token ids and numbers: how much there is to move and to tokenize."""
        sampling = self.sampling
        texts = sum(len(value) for message in self.messages for value in message.values())
        texts += sum(map(len, sampling.stop)) + 2 * len(sampling.logit_bias)
        if sampling.guide is not None:
            texts += len(sampling.guide.schema or "")
        return texts + sum(len(prompt) for prompt in self.prompts) + len(self.body)
