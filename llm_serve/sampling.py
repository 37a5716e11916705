"""What an engine is asked to generate, and what it gives back piece by piece. Leaf vocabulary."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

FinishReason = Literal["stop", "length", "tool_calls"]
"""Engines say `stop` or `length`; what they end in a call of a tool is told from the text."""


@dataclass(frozen=True, slots=True)
class Tools:
    """The functions that a model may call, and whether it must.

    `functions` are OpenAI's function objects: `name`, and perhaps `description`, `parameters` (a
    JSON Schema) and `strict`. `choice` `named` demands a call of `name`, `required` of any.
    """

    functions: tuple[dict[str, Any], ...]
    choice: Literal["auto", "none", "required", "named"] = "auto"
    name: str | None = None
    parallel: bool = True
    """Whether one answer may hold several calls."""

    @property
    def forced(self) -> bool:
        """Whether the answer must be a call."""
        return self.choice in ("required", "named")


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a chat template is given.

    A message has `role` (`system`, `developer`, `user`, `assistant`, `tool`) and `content`, a text,
    and perhaps `name`, `tool_calls` (OpenAI's, each with `id`, `type` and `function`, whose
    `arguments` are JSON text), `tool_call_id`, and `reasoning_content`.
    """

    messages: tuple[dict[str, Any], ...]
    tools: Tools | None = None
    template: dict[str, Any] = field(default_factory=dict)
    """More variables of the template, such as `enable_thinking`."""
    ending: Literal["begun", "continued", "none"] = "begun"
    """How the prompt ends: with the begin of an answer, within the last message, which the answer
    goes on from, or with the end of that."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A tokenized prompt."""

    token_ids: tuple[int, ...]
    reasoning: bool = False
    """Whether the prompt ends within the reasoning, so that the answer begins there."""


@dataclass(frozen=True, slots=True)
class Guide:
    """What the text must be.

    `text` is a JSON Schema as JSON text, a regular expression that the whole answer matches, or a
    grammar: `grammar` is a client's, in llama.cpp's GBNF or in Lark's syntax, and `lark` is ours,
    in that of llguidance. `json_object` has no text. With `after`, the text is free until that has
    been generated: the end of the reasoning. `param` is the field of the request that asked for it.
    """

    kind: Literal["json_object", "json_schema", "regex", "grammar", "lark"] = "json_object"
    text: str = ""
    after: str = ""
    param: str = "response_format"


@dataclass(frozen=True, slots=True)
class Sampling:
    """How one sequence is sampled. Ranges were checked by `llm_serve.api.schemas.requests`.

    `temperature` 0 is greedy. `seed` None draws a fresh one. `logprobs` is None for none, else how
    many alternatives to give beside the sampled token (0..20). `stop` holds non-empty strings.
    `max_tokens` None means the backend's default; it is always cut to what the context leaves.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    seed: int | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    ignore_eos: bool = False
    guide: Guide | None = None
    special_tokens: bool = False
    """Special tokens are part of the text, but for those that end it: some models mark calls so."""
    final_only: bool = False
    """Nobody reads before the end: an engine may give everything at once."""
    adapter: str | None = None
    """The LoRA adapter to sample from; None is the model itself."""


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One sampled token: its text, its exact bytes, its natural-log probability, alternatives."""

    token: str
    token_bytes: bytes
    logprob: float
    top: tuple[tuple[str, bytes, float], ...] = ()


@dataclass(frozen=True, slots=True)
class CallDelta:
    """What one call of a tool gained; the first of a call has its `id` and `name`."""

    index: int
    """Of the calls of one answer, from 0."""
    arguments: str = ""
    """A piece of the arguments, which are JSON text."""
    id: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Delta:
    """What one sequence gained since its last delta.

    `text` holds whole characters only and may be empty. `tokens` counts the sampled tokens that
    this delta stands for, the end-of-sequence token included. The last delta, and only the last,
    has a `finish_reason`.

    An engine's delta has `text` alone; `llm_serve.chat` takes reasoning and calls out of it. Where
    one delta holds several, the order is reasoning, text, calls.
    """

    text: str
    tokens: int
    finish_reason: FinishReason | None = None
    logprobs: tuple[TokenLogprob, ...] = ()
    reasoning: str = ""
    calls: tuple[CallDelta, ...] = ()
    cached_tokens: int | None = None
    """Tokens of the prompt whose KV cache was there already; None where that is not counted."""
    stop: str | None = None
    """The stop string that ended the sequence; it is not part of the text."""
