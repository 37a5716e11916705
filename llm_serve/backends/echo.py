"""A backend that answers with the last message, or as it was told, a word a token: for tests.

Its speed and its failures are set in `EchoEngine`, so that a test provokes on purpose what an
engine does by accident. It is deterministic; sampling changes nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import os
import re
from array import array
from collections.abc import AsyncGenerator, Sequence
from itertools import count

from llm_serve.backends.base import Embedded, Ranked
from llm_serve.backends.prompts import chat_details
from llm_serve.chat import ChatFormat
from llm_serve.config import EchoEngine, ModelConfig
from llm_serve.errors import InternalError, InvalidRequest, LoadFailed, PromptTooLong
from llm_serve.progress import LoadProgress, ModelInfo, OnProgress
from llm_serve.sampling import Conversation, Delta, FinishReason, Prompt, Sampling, TokenLogprob

_WORDS = re.compile(r"\S+\s*|\s+")
_STEPS = 20
_DIMENSIONS = 32
"""Of its embeddings, at most."""


class EchoBackend:
    """The `Backend` of this module. A token is a word with the white space after it."""

    def __init__(self, model: ModelConfig) -> None:
        assert isinstance(model.engine, EchoEngine)
        self.engine = model.engine
        self.chat_format = ChatFormat.of(
            None, self.engine.tool_call_parser, self.engine.reasoning_parser
        )
        self.default_max_tokens = model.defaults.max_tokens
        self.running = 0
        self._ids: dict[str, int] = {}
        self._words: list[str] = []
        self.tokens = _Words(self)

    async def load(self, report: OnProgress) -> ModelInfo:
        for step in range(_STEPS):
            report(LoadProgress("weights", step / _STEPS))
            if self.engine.load_s:
                await asyncio.sleep(self.engine.load_s / _STEPS)
        if self.engine.exit_on_load:
            os._exit(1)
        if self.engine.load_error is not None:
            raise LoadFailed(self.engine.load_error)
        return ModelInfo(
            context_length=self.engine.context_length,
            footprint_bytes=0,
            dtype="none",
            device="cpu",
            engine_version="echo",
            details=chat_details(self.chat_format),
        )

    def encode_chat(self, conversation: Conversation) -> Prompt:
        """What it will answer: the scripted text of this turn, else the last message."""
        turn = sum(message["role"] == "assistant" for message in conversation.messages)
        if turn < len(self.engine.answers):
            return self.encode_text(self.engine.answers[turn])
        return self.encode_text(conversation.messages[-1]["content"] or "")

    def encode_text(self, text: str) -> Prompt:
        ids = []
        for word in _WORDS.findall(text):
            if word not in self._ids:
                self._ids[word] = len(self._words)
                self._words.append(word)
            ids.append(self._ids[word])
        return Prompt(tuple(ids))

    async def generate(self, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[Delta, None]:
        engine = self.engine
        room = engine.context_length - len(prompt.token_ids)
        if room < 1:
            raise PromptTooLong(
                f"The prompt has {len(prompt.token_ids)} tokens and the context holds "
                f"{engine.context_length}; shorten the prompt."
            )
        limit = min(sampling.max_tokens or self.default_max_tokens, room)
        words = [self.word(i) for i in prompt.token_ids] or [" "]
        self.running += 1
        try:
            await asyncio.sleep(engine.first_token_s)
            sent = ""
            for i in count():
                if engine.fail_after_tokens == i:
                    raise InternalError("The echo backend was told to fail here.")
                if engine.exit_after_tokens == i:
                    os._exit(1)
                if i and engine.token_s:
                    await asyncio.sleep(engine.token_s)
                word = words[i % len(words)]
                finish = _finish(i, len(words), limit, sampling.ignore_eos)
                sent += word
                cut, stop = _stop_at(sent, sampling.stop)
                if stop is not None:
                    word, finish = word[: max(0, len(word) - (len(sent) - cut))], "stop"
                logprobs = (
                    () if sampling.logprobs is None else (TokenLogprob(word, word.encode(), 0.0),)
                )
                yield Delta(word, 1, finish, logprobs, stop=stop)
                if finish:
                    return
        finally:
            self.running -= 1

    async def embed(
        self, inputs: tuple[str | tuple[int, ...], ...], dimensions: int | None
    ) -> Embedded:
        """Of each input a vector of unit length that its tokens alone decide."""
        if (dimensions or 0) > _DIMENSIONS:
            raise InvalidRequest(
                f"dimensions: the vectors have {_DIMENSIONS} numbers; ask for as many or fewer.",
                param="dimensions",
            )
        counts = [len(_WORDS.findall(one)) if isinstance(one, str) else len(one) for one in inputs]
        if max(counts) > self.engine.context_length:
            raise PromptTooLong(
                f"An input has {max(counts)} tokens and the context holds "
                f"{self.engine.context_length}; shorten it.",
                param="input",
            )
        self.running += 1
        try:
            await asyncio.sleep(self.engine.first_token_s)
            return Embedded([_vector(one, dimensions) for one in inputs], sum(counts))
        finally:
            self.running -= 1

    async def rank(self, query: str, documents: tuple[str, ...]) -> Ranked:
        """By how many of the query's words a document has."""
        words = set(query.split())
        await asyncio.sleep(self.engine.first_token_s)
        scores = [len(words & set(one.split())) / max(len(words), 1) for one in documents]
        return Ranked(scores, sum(len(_WORDS.findall(one)) for one in (query, *documents)))

    async def check_health(self) -> None:
        return

    async def close(self) -> None:
        return

    def word(self, token_id: int) -> str:
        return self._words[token_id] if token_id < len(self._words) else f"<{token_id}> "


def _vector(text: str | tuple[int, ...], dimensions: int | None) -> array[float]:
    digest = hashlib.sha256(repr(text).encode()).digest()[: dimensions or _DIMENSIONS]
    values = [byte - 127.5 for byte in digest]
    return array("f", (value / math.hypot(*values) for value in values))


class _Words:
    """The tokens that there were so far, as `Tokens` shows them."""

    def __init__(self, backend: EchoBackend) -> None:
        self._backend = backend
        self.context_length = backend.engine.context_length

    def encode(self, text: str, special: bool) -> tuple[int, ...]:
        return self._backend.encode_text(text).token_ids

    def names(self, token_ids: Sequence[int]) -> list[str]:
        return [self._backend.word(i) for i in token_ids]

    def decode(self, token_ids: Sequence[int]) -> str:
        return "".join(self.names(token_ids))


def _finish(i: int, words: int, limit: int, ignore_eos: bool) -> FinishReason | None:
    if i + 1 == words and not ignore_eos:
        return "stop"
    return "length" if i + 1 >= limit else None


def _stop_at(text: str, stops: tuple[str, ...]) -> tuple[int, str | None]:
    """Where the first stop string begins, and which it is; one that spans words has leaked by
    then."""
    found = [(at, stop) for stop in stops if (at := text.find(stop)) >= 0]
    return min(found, default=(0, None))
