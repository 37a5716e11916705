"""One sequence's way through its guide, and what that leaves of the logits."""

from __future__ import annotations

from collections.abc import Sequence
from time import thread_time

import numpy as np
import torch
from llguidance import LLMatcher
from torch.nn.functional import embedding

from llm_serve.errors import InternalError, InvalidRequest, ServeError

Mask = np.ndarray[tuple[int], np.dtype[np.uint32]]
"""A bit per token."""
ALLOWED_S, ALLOWED_S_PER_TOKEN = 0.1, 0.001
"""Processor time that a sequence's guide may take, of the thread that serves all sequences. What is
usual is 10 us a token; an ambiguous grammar takes ever more, as its text gets longer."""
_CEILINGS = torch.tensor(
    [
        [float("inf") if byte >> bit & 1 else float("-inf") for bit in range(8)]
        for byte in range(256)
    ]
)
"""Of the logits of 8 tokens, by the byte of their bits."""


class Constraint:
    """Before each token `restrict` asks it for a mask; after it, it is told the token.

    `ended` is set once nothing can follow: the guide is fulfilled, or the sequence was ended where
    the guide allowed it. `error` is set where the guide cannot go on; the sequence must fail then.
    """

    def __init__(
        self,
        matcher: LLMatcher,
        vocabulary: int,
        eos: Sequence[int],
        param: str,
        *,
        ignore_eos: bool = False,
    ) -> None:
        """`vocabulary` is how many tokens the matcher knows. With `ignore_eos`, the sequence ends
        only where the guide lets nothing else follow."""
        self.words = (vocabulary + 31) // 32
        """Of its mask."""
        self._matcher = matcher
        self._eos = frozenset(eos)
        self._param = param
        self._ignore_eos = ignore_eos
        self._mask = np.zeros(0, np.uint32)
        self._spent_s = -ALLOWED_S
        self.ended = False
        self.error: ServeError | None = None

    def fill(self, mask: Mask) -> None:
        """Sets the bits of the tokens that may follow, all of them after an error."""
        began = thread_time()
        try:
            self._matcher.unsafe_compute_mask_ptr(mask.ctypes.data, mask.nbytes)
        except ValueError as error:
            self._fail(str(error))
        self._check(began + ALLOWED_S_PER_TOKEN)
        if self.error is not None:
            mask[:] = 0xFFFFFFFF  # for the sampler, which has others to serve
        elif self._ignore_eos:
            self._leave_out_the_end(mask)
        self._mask = mask

    def accept(self, token: int) -> None:
        """Goes on with `token`."""
        if self.error is not None:
            return
        if not self._mask[token // 32] >> np.uint32(token % 32) & 1:
            self.error = InternalError("The model gave no number for any token that may follow.")
        elif token in self._eos:
            self.ended = True
        else:
            began = thread_time()
            self._matcher.consume_token(token)
            self._check(began)
            self.ended = self._matcher.is_stopped()

    def _leave_out_the_end(self, mask: Mask) -> None:
        without = mask.copy()
        for token in self._eos:
            without[token // 32] &= ~np.uint32(1 << token % 32)
        if without.any():
            mask[:] = without

    def _check(self, began: float) -> None:
        self._spent_s = max(self._spent_s + thread_time() - began, -ALLOWED_S)
        if self._matcher.is_error():
            self._fail(self._matcher.get_error())
        elif self._spent_s > 0:
            self._fail("it takes too much time for each token")

    def _fail(self, reason: str) -> None:
        if self.error is None:
            told = next(iter(reason.splitlines()), "")[:200]
            self.error = InvalidRequest(
                f"{self._param} has become too complex for this answer ({told}). Make it simpler: "
                "fewer alternatives, shorter repetitions.",
                param=self._param,
            )


def restrict(logits: torch.Tensor, rows: Sequence[int], constraints: Sequence[Constraint]) -> None:
    """Sets to -inf what must not follow, in those rows of `logits`, `[rows, vocabulary]`.
    The model's forward pass may still run on its device meanwhile."""
    width = logits.shape[1]
    masks = np.zeros((len(rows), constraints[0].words), np.uint32)
    for mask, constraint in zip(masks, constraints, strict=True):
        constraint.fill(mask)
    packed = torch.from_numpy(masks.view(np.uint8)).to(logits.device).int()
    # A ceiling, because `masked_fill_` decides token by token: 3 to 12 ms for 32 rows on a CPU,
    # where this takes 0.3.
    ceilings = embedding(packed, _CEILINGS.to(logits.device)).flatten(1)[:, :width]
    if len(rows) == len(logits):
        torch.minimum(logits, ceilings, out=logits)
    else:
        index = torch.tensor(rows, device=logits.device)
        logits[index] = torch.minimum(logits[index], ceilings)
