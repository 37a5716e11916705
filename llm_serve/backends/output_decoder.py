"""What a sequence of tokens says: deltas of text, counts, log-probabilities and how it ended."""

from __future__ import annotations

from collections.abc import Sequence as Tokens
from functools import partial
from typing import TYPE_CHECKING, Any

from llm_serve.backends.detokenize import Detokenizer, StopMatcher
from llm_serve.sampling import Delta, FinishReason, Sampling, TokenLogprob

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


RawLogprob = tuple[float, list[int], list[float]]
"""The sampled token's log-probability, then the ids and log-probabilities of the likeliest."""
LEAST = -9999.0
"""The log-probability of what has none, as at OpenAI: JSON has no infinity, and nothing that is no
number."""


def end_tokens(
    configured: int | list[int] | None, tokenizer: PreTrainedTokenizerBase
) -> tuple[int, ...]:
    """The ids that end a sequence: what the generation configuration says, else the tokenizer."""
    ids = tokenizer.eos_token_id if configured is None else configured
    return tuple(ids) if isinstance(ids, list) else () if ids is None else (ids,)


class Vocabulary:
    """A tokenizer's other direction: ids to text, and to the exact bytes of one token."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        # The Rust object behind it skips copies and checks that cost more than the decoding.
        self._fast: Any = getattr(tokenizer, "backend_tokenizer", None)
        decoder = self._fast.decoder if self._fast is not None else None
        self._byte_level = "ByteLevel" in repr(decoder)
        self._added = frozenset(tokenizer.get_added_vocab().values())

    def decode(self, token_ids: Tokens[int], *, special_tokens: bool = False) -> str:
        """The text of tokens; special ones have none, unless they are asked for."""
        decoder = self._tokenizer if self._fast is None else self._fast
        return str(decoder.decode(token_ids, skip_special_tokens=not special_tokens))

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that a token stands for, also where they are a piece of a character."""
        token = self._tokenizer.convert_ids_to_tokens(token_id)
        if token is None:  # an id that the model can give and the tokenizer does not know
            return b""
        token = str(token)
        if token_id in self._added:
            return token.encode()
        if self._byte_level and _BYTE_OF.keys() >= set(token):
            return bytes(_BYTE_OF[character] for character in token)
        if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
            return bytes.fromhex(token[3:5])
        return token.replace("\u2581", " ").encode()

    def logprob(
        self, token_id: int, logprob: float, top: Tokens[tuple[int, float]]
    ) -> TokenLogprob:
        others = tuple((*self._named(i), max(LEAST, value)) for i, value in top)
        return TokenLogprob(*self._named(token_id), max(LEAST, logprob), others)

    def _named(self, token_id: int) -> tuple[str, bytes]:
        exact = self.token_bytes(token_id)
        return exact.decode(errors="replace"), exact


class OutputDecoder:
    """Turns the tokens of one sequence into deltas of text. It goes token by token, so that a stop
    string ends it at the same token however many arrive at once."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        sampling: Sampling,
        logprobs: Tokens[RawLogprob],
        eos_token_ids: Tokens[int],
    ) -> None:
        """`logprobs` grows in the engine's thread, ahead of the tokens; empty if not asked for."""
        self._vocabulary = vocabulary
        self._with_logprobs = sampling.logprobs is not None
        self._raw_logprobs = logprobs
        self._eos = frozenset() if sampling.ignore_eos else frozenset(eos_token_ids)
        # Those that end a sequence have no text, also where special tokens have.
        self._silent = frozenset(eos_token_ids if sampling.special_tokens else ())
        self._detokenizer = Detokenizer(
            partial(vocabulary.decode, special_tokens=True)
            if sampling.special_tokens
            else vocabulary.decode
        )
        self._stops = StopMatcher(sampling.stop)
        self._seen = 0  # tokens
        self._decoded = 0  # characters, held or sent
        self._sent = 0  # characters
        self._logprobs: list[tuple[int, TokenLogprob]] = []  # held, with where the text starts
        self._stop: str | None = None  # that cut it: what is held after it is never sent
        self.finish_reason: FinishReason | None = None

    def extend(
        self, tokens: Tokens[int], *, finished: bool, ended: bool | None = None
    ) -> Delta | None:
        """The delta up to `tokens`, all of the sequence so far; None if nothing is new.

        `ended`: whether a finished sequence ended by itself, where the engine tells; else the last
        token does.
        """
        before = self._seen
        pieces = []
        while self._seen < len(tokens) and self.finish_reason is None:
            pieces.append(self._push(tokens[self._seen]))
        if finished and self.finish_reason is None:
            if ended is None:
                ended = bool(tokens) and tokens[-1] in self._eos
            pieces.append(self._finish("stop" if ended else "length"))
        if self._seen == before and self.finish_reason is None:
            return None
        text = "".join(pieces)
        self._sent += len(text)
        logprobs = self._release_logprobs()
        return Delta(text, self._seen - before, self.finish_reason, logprobs, stop=self._stop)

    def _push(self, token: int) -> str:
        self._note_logprob(token)
        self._seen += 1
        if token in self._silent:
            return ""
        return self._match(self._detokenizer.push(token))

    def _match(self, text: str) -> str:
        self._decoded += len(text)
        matched = self._stops.push(text)
        if matched.stop is not None:
            self.finish_reason = "stop"
            self._stop = matched.stop
        return matched.text

    def _finish(self, reason: FinishReason) -> str:
        text = self._match(self._detokenizer.flush())
        if self.finish_reason is None:
            self.finish_reason = reason
            text += self._stops.flush()
        return text

    def _note_logprob(self, token: int) -> None:
        if not self._with_logprobs or token in self._eos:
            return
        logprob, ids, values = self._raw_logprobs[self._seen]
        entry = self._vocabulary.logprob(token, logprob, list(zip(ids, values, strict=True)))
        self._logprobs.append((self._decoded, entry))

    def _release_logprobs(self) -> tuple[TokenLogprob, ...]:
        """Those of tokens whose text was sent, so that they tell no more than the text does."""
        if self.finish_reason is not None and self._stop is None:
            released, self._logprobs = self._logprobs, []
        else:
            released = [entry for entry in self._logprobs if entry[0] < self._sent]
            self._logprobs = self._logprobs[len(released) :]
        return tuple(logprob for _, logprob in released)


def _byte_of() -> dict[str, int]:
    """GPT-2's printable stand-ins for bytes, reversed: printable ones stand for themselves, the
    others for characters from U+0100 on, in order."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = (byte for byte in range(256) if byte not in printable)
    return {chr(byte): byte for byte in printable} | {
        chr(256 + i): byte for i, byte in enumerate(others)
    }


_BYTE_OF = _byte_of()
