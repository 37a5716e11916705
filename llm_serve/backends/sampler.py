"""How a token is chosen from logits, for each sequence of a batch on its own terms.

Continuous batching hands over the logits of all sequences of a step at once; a `Sampler` takes the
place of transformers' logits processors and leaves the winner of every row as its maximum, because
the engine runs with `do_sample=False` and takes the argmax. A step in which every sequence is
greedy without extras skips all this.

The order is that of OpenAI and vLLM: penalties and bias, temperature, top_k, top_p, min_p.
Penalties count generated tokens, not the prompt. Log-probabilities are those of the model, before
any of it. A draw is one uniform number per token from the sequence's own generator, turned into a
token by the inverse of its distribution: it depends on the seed and the logits, not on the batch.
"""

from __future__ import annotations

import random
from collections.abc import Sequence as Rows
from typing import Any

import torch
from transformers.generation.continuous_batching.cb_logits_processors import (
    ContinuousBatchingLogitsProcessorList,
)
from transformers.generation.logits_process import LogitsProcessorList

from llm_serve.backends.base import Sampling

GREEDY_BELOW = 1e-5
"""Temperatures under this would overflow; the result is the argmax anyway."""
CANDIDATES = 128
"""How many of the most likely tokens are looked at first for top_k and top_p."""

RawLogprob = tuple[float, list[int], list[float]]
"""The sampled token's log-probability, then the ids and log-probabilities of the likeliest."""


class Sequence:
    """What is remembered of one sequence from token to token."""

    def __init__(self, sampling: Sampling) -> None:
        self.sampling = sampling
        self.greedy = sampling.temperature < GREEDY_BELOW
        self.penalized = bool(sampling.presence_penalty or sampling.frequency_penalty)
        self.plain = (
            self.greedy
            and not self.penalized
            and not sampling.logit_bias
            and sampling.logprobs is None
        )
        self.uniform = random.Random(sampling.seed).random
        self.counts: torch.Tensor | None = None
        self.logprobs: list[RawLogprob] = []

    def __deepcopy__(self, memo: dict[int, Any]) -> Sequence:
        """The same: under memory pressure the engine copies a request to run it again later."""
        return self


class Sampler(ContinuousBatchingLogitsProcessorList):  # type: ignore[misc]
    """Transformers' hook into every step: `prepare_tensor_args` before the forward pass, then
    `__call__` with float32 logits `[rows, vocabulary]`, of which the first rows are the sequences
    that get a token, in order."""

    def __init__(self) -> None:
        super().__init__(LogitsProcessorList())
        self._rows: list[Sequence] = []

    def check_kwargs(self, kwargs: dict[str, Any]) -> None:
        """Every request brings its `sequence`."""

    def prepare_tensor_args(
        self, requests_in_batch: Rows[Any], arg_storage: torch.Tensor
    ) -> torch.Tensor:
        self._rows = [
            request.state.logit_processor_kwargs["sequence"]
            for request in requests_in_batch
            if request.has_new_token
        ]
        self.do_processing = not all(row.plain for row in self._rows)
        return arg_storage

    def __call__(
        self, input_ids: torch.Tensor, scores: torch.Tensor, logits_processor_args: torch.Tensor
    ) -> torch.Tensor:
        live = scores[: len(self._rows)]
        asked = [i for i, row in enumerate(self._rows) if row.sampling.logprobs is not None]
        raw = live[asked].log_softmax(-1) if asked else None
        for row, logits in zip(self._rows, live, strict=True):
            adjust(row, logits)
        tokens = choose(self._rows, live)
        for row, token in zip(self._rows, tokens.tolist(), strict=True):
            if row.counts is not None:
                row.counts[token] += 1
        if raw is not None:
            self._keep_logprobs(asked, raw, tokens)
        live.scatter_(1, tokens.unsqueeze(1), float("inf"))
        return scores

    def _keep_logprobs(self, asked: list[int], raw: torch.Tensor, tokens: torch.Tensor) -> None:
        chosen = raw.gather(1, tokens[asked].unsqueeze(1)).squeeze(1).tolist()
        most = max(self._rows[i].sampling.logprobs or 0 for i in asked)
        values, ids = raw.topk(most) if most else (raw[:, :0], raw[:, :0].long())
        for i, logprob, top, top_ids in zip(
            asked, chosen, values.tolist(), ids.tolist(), strict=True
        ):
            count = self._rows[i].sampling.logprobs or 0
            self._rows[i].logprobs.append((logprob, top_ids[:count], top[:count]))


def adjust(sequence: Sequence, logits: torch.Tensor) -> None:
    """Penalties and bias of one row `[vocabulary]`, in place."""
    sampling = sequence.sampling
    if sequence.penalized:
        if sequence.counts is None:
            sequence.counts = torch.zeros_like(logits)
        logits.sub_(sequence.counts, alpha=sampling.frequency_penalty)
        logits.sub_((sequence.counts > 0).to(logits.dtype), alpha=sampling.presence_penalty)
    if sampling.logit_bias:
        ids, bias = zip(*sampling.logit_bias, strict=True)
        index = torch.tensor(ids, device=logits.device)
        logits.index_add_(0, index, torch.tensor(bias, dtype=logits.dtype, device=logits.device))


def choose(rows: Rows[Sequence], logits: torch.Tensor) -> torch.Tensor:
    """The token of every row `[rows]`; leaves `logits` as they are."""
    tokens = logits.argmax(-1)
    whole: list[int] = []
    cut: list[int] = []
    for i, row in enumerate(rows):
        if not row.greedy:
            truncates = row.sampling.top_p < 1 or row.sampling.top_k > 0
            (cut if truncates else whole).append(i)
    for indices, draw in ((whole, _draw_from_all), (cut, _draw_from_likeliest)):
        if indices:
            sampled = [rows[i] for i in indices]
            uniform = [row.uniform() for row in sampled]
            tokens[indices] = draw(sampled, logits[indices], uniform)
    return tokens


def _draw_from_all(
    rows: Rows[Sequence], logits: torch.Tensor, uniform: list[float]
) -> torch.Tensor:
    weights = _weights(rows, logits)
    floor = _column(weights, [row.sampling.min_p for row in rows])
    if any(row.sampling.min_p > 0 for row in rows):
        weights.masked_fill_(weights < floor, 0.0)
    return _invert(weights, uniform)


def _draw_from_likeliest(
    rows: Rows[Sequence], logits: torch.Tensor, uniform: list[float], count: int = CANDIDATES
) -> torch.Tensor:
    """Sorts only the likeliest tokens, and more of them only for rows that need more: a sort of the
    whole vocabulary takes longer than the model's forward pass."""
    weights = _weights(rows, logits)
    count = min(count, weights.shape[1])
    top, ids = weights.topk(count)
    rank = torch.arange(count, device=weights.device)
    limit = _column(weights, [row.sampling.top_k or weights.shape[1] for row in rows])
    top_p = _column(weights, [row.sampling.top_p for row in rows])
    floor = _column(weights, [row.sampling.min_p for row in rows])
    in_top_k = top.masked_fill(rank >= limit, 0.0)
    # The mass of which top_p is a share. Of a top_k past the candidates it is not known yet.
    uncut, within = limit >= weights.shape[1], limit <= count
    mass = torch.where(uncut, weights.sum(-1, keepdim=True), in_top_k.sum(-1, keepdim=True))
    budget = mass * top_p
    before = in_top_k.cumsum(-1) - in_top_k
    kept = in_top_k.masked_fill((before >= budget) | (top < floor), 0.0)
    kept[:, 0] = top[:, 0]
    tokens = ids.gather(1, _invert(kept, uniform).unsqueeze(1)).squeeze(1)
    if count < weights.shape[1]:
        enough = within | (uncut & (in_top_k.sum(-1, keepdim=True) >= budget))
        enough |= (uncut | (top_p >= 1)) & (top[:, -1:] < floor)
        more = (~enough).squeeze(1).nonzero().flatten().tolist()
        if more:
            its_rows, its_uniform = [rows[i] for i in more], [uniform[i] for i in more]
            tokens[more] = _draw_from_likeliest(its_rows, logits[more], its_uniform, count * 16)
    return tokens


def _weights(rows: Rows[Sequence], logits: torch.Tensor) -> torch.Tensor:
    """Probabilities after temperature, up to a factor: the likeliest of a row has weight 1."""
    weights = logits - logits.amax(-1, keepdim=True)
    return weights.div_(_column(weights, [row.sampling.temperature for row in rows])).exp_()


def _invert(weights: torch.Tensor, uniform: list[float]) -> torch.Tensor:
    """The token of every row at which the running sum of weights passes its share `uniform`."""
    running = weights.cumsum(-1)
    target = running[:, -1:] * _column(weights, uniform)
    at = torch.searchsorted(running, target, right=True).squeeze(1)
    # Rounding may leave the target at the very end, behind which there is no token; and where a
    # model gives what is no number, there is no end. An index outside would end the engine.
    last = torch.searchsorted(running, running[:, -1:].contiguous()).squeeze(1)
    return torch.minimum(at, last).clamp_(max=running.shape[1] - 1)


def _column(like: torch.Tensor, values: Rows[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32, device=like.device).unsqueeze(1)
