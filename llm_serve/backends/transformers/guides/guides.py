"""Guides of requests become constraints of sequences: compiled once, kept while there is room."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llguidance import LLMatcher, LLTokenizer

from llm_serve.backends.transformers.guides import trial
from llm_serve.backends.transformers.guides.constraint import Constraint
from llm_serve.backends.transformers.guides.trial_process import TrialProcess
from llm_serve.errors import (
    InternalError,
    InvalidRequest,
    NotReady,
    ServeError,
    UnsupportedParameter,
)
from llm_serve.sampling import Guide

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger("llm_serve.backends.transformers")
MOST = 64
"""Guides that are kept, those that were refused included."""
MOST_BYTES = 2**28
"""What they may take together when they were compiled."""
LARGEST = 2**26
"""What one may take."""
LONGEST = 2**18
"""Characters of one guide."""
_TOO_MUCH = "It takes too much time or memory to compile; make it simpler."
_POINTS = re.compile(r"\s*(\d+ \|.*|\^+\s*|\(at \".*)?")
_CALLED = {
    "json_object": "JSON",
    "json_schema": "the JSON Schema",
    "regex": "the regular expression",
    "grammar": "the grammar",
    "lark": "the grammar",
}
_Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class _Compiled:
    matcher: LLMatcher | None
    """The first state, which is only copied; None where the guide was refused."""
    reason: str
    nbytes: int


class Guides:
    """The guides of one model. Nothing is started or read before the first one.

    One thread compiles, and only what the process of `trial` has compiled before; so a guide that
    is made to stall it keeps other *new* guides waiting for as long as a trial may take, and nobody
    else. Threads of the compiler hold no interpreter lock.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, vocabulary: int, eos_token_ids: tuple[int, ...]
    ) -> None:
        """`vocabulary` is how many logits the model gives."""
        self._tokenizer = tokenizer
        self._size = max(vocabulary, len(tokenizer))
        self._eos = eos_token_ids
        self._compiler: LLTokenizer | None = None
        self._trials: TrialProcess | None = None
        self._thread = ThreadPoolExecutor(1, "guides")
        self._lock = threading.Lock()
        self._known: OrderedDict[_Key, Future[_Compiled]] = OrderedDict()
        self._sizes: dict[_Key, int] = {}
        """Of those that have been compiled."""

    async def constraint(self, guide: Guide, *, ignore_eos: bool) -> Constraint:
        """The guide at its beginning. Raises InvalidRequest with the compiler's reason."""
        if len(guide.text) > LONGEST:
            raise InvalidRequest(
                f"{guide.param}: {_CALLED[guide.kind]} has {len(guide.text)} characters; at most "
                f"{LONGEST} are compiled.",
                param=guide.param,
            )
        future = self._compiled(guide)
        # A client that leaves must not cancel what others wait for.
        try:
            found = await asyncio.shield(asyncio.wrap_future(future))
        except ServeError:
            raise
        except Exception as error:
            log.exception("A guide could not be compiled")
            raise InternalError("The guide of this request could not be compiled.") from error
        if found.matcher is None:
            raise InvalidRequest(
                f"{guide.param}: {_CALLED[guide.kind]} cannot be obeyed. {found.reason}",
                param=guide.param,
            )
        matcher = found.matcher.deep_copy()
        return Constraint(matcher, self._size, self._eos, guide.param, ignore_eos=ignore_eos)

    def close(self) -> None:
        self._thread.shutdown(wait=False)
        if self._trials is not None:
            self._trials.stop()

    def _compiled(self, guide: Guide) -> Future[_Compiled]:
        key = guide.kind, guide.text, guide.after
        with self._lock:
            future = self._known.get(key)
            if future is None:
                future = self._known[key] = self._thread.submit(self._compile, key, guide.param)
            self._known.move_to_end(key)
        return future

    def _compile(self, key: _Key, param: str) -> _Compiled:
        try:
            self._start(param)
            compiled = self._try(*key)
        except BaseException:
            with self._lock:  # those who wait are told; the next one tries again
                self._known.pop(key, None)
            raise
        self._make_room(key, compiled.nbytes)
        return compiled

    def _try(self, kind: str, text: str, after: str) -> _Compiled:
        assert self._trials is not None
        assert self._compiler is not None
        guide = {"kind": kind, "text": text, "after": after, "after_token": self._token(after)}
        told = self._trials.ask(guide)
        size = len(text) + len(after)
        if "late" in told:
            message = "The machine is too busy to compile what the answer is held to; try again."
            raise NotReady(message, retry_after_s=10)
        if "killed" in told:
            return _Compiled(None, _TOO_MUCH, size)
        if "refused" in told:
            return _Compiled(None, _sentence(told["refused"]), size)
        if told["bytes"] > LARGEST:
            return _Compiled(None, _TOO_MUCH, size)
        matcher = trial.compiled(self._compiler, told["grammar"])
        return _Compiled(matcher, "", size + int(told["bytes"]))

    def _start(self, param: str) -> None:
        """What the first guide needs."""
        if self._compiler is not None:
            return
        fast: Any = getattr(self._tokenizer, "backend_tokenizer", None)
        if fast is None:
            raise UnsupportedParameter(
                f"{param} is not supported by the tokenizer of this model; leave it out.",
                param=param,
            )
        plain = copy(fast)
        plain.no_padding()
        plain.no_truncation()
        vocabulary = {
            "serialized": plain.to_str(),
            "vocabulary": self._size,
            "eos": list(self._eos),
        }
        self._trials = TrialProcess(vocabulary)
        self._compiler = trial.tokenizer(**vocabulary)

    def _token(self, text: str) -> int | None:
        """The id of a text that is a special token, which no other tokens can spell."""
        assert self._compiler is not None
        token = self._tokenizer.get_added_vocab().get(text)
        if token is None or not self._compiler.is_special_token(token):
            return None
        return int(token)

    def _make_room(self, key: _Key, nbytes: int) -> None:
        """Forgets what was asked for longest ago, until the rest is little enough."""
        with self._lock:
            self._sizes[key] = nbytes
            for old in list(self._known):
                if len(self._sizes) <= MOST and sum(self._sizes.values()) <= MOST_BYTES:
                    return
                if old != key and old in self._sizes:
                    del self._known[old], self._sizes[old]


def _sentence(reason: str) -> str:
    """The compiler's reason on one line, without the copies of the source that point into it."""
    lines = [line for line in reason.splitlines() if not _POINTS.fullmatch(line)]
    return " ".join(" ".join(lines).split())[:400].rstrip(".") + "."
