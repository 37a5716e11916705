"""How a token is chosen from logits, for each sequence of a batch on its own terms.

The engine hands over the logits of all sequences of a step at once. A step in which every sequence
is greedy without extras is one argmax.

The order is that of OpenAI and vLLM: penalties and bias, what a guide forbids, temperature, top_k,
top_p, min_p.
Penalties count generated tokens, not the prompt. Log-probabilities are those of the model, before
any of it. A draw is one uniform number per token from the sequence's own generator, turned into a
token by the inverse of its distribution: it depends on the seed and the logits, not on the batch.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch

from llm_serve.backends.output_decoder import RawLogprob
from llm_serve.backends.transformers.guides.constraint import Constraint, restrict
from llm_serve.sampling import Sampling

GREEDY_BELOW = 1e-5
"""Temperatures under this would overflow; the result is the argmax anyway."""
CANDIDATES = 128
"""How many of the most likely tokens are looked at first for top_k and top_p."""


class State:
    """What the sampler remembers of one sequence from token to token."""

    def __init__(self, sampling: Sampling, constraint: Constraint | None = None) -> None:
        self.sampling = sampling
        self.constraint = constraint
        self.greedy = sampling.temperature < GREEDY_BELOW
        self.penalized = bool(sampling.presence_penalty or sampling.frequency_penalty)
        self.plain = (
            self.greedy
            and not self.penalized
            and not sampling.logit_bias
            and sampling.logprobs is None
            and constraint is None
        )
        self.uniform = random.Random(sampling.seed).random
        self.counts: torch.Tensor | None = None
        self.logprobs: list[RawLogprob] = []


def sample(rows: Sequence[State], logits: torch.Tensor) -> list[int]:
    """The next token of every sequence; changes `logits`, float32 `[rows, vocabulary]`."""
    if all(row.plain for row in rows):
        tokens: list[int] = logits.argmax(-1).tolist()
        return tokens
    asked = [i for i, row in enumerate(rows) if row.sampling.logprobs is not None]
    raw = logits[asked].log_softmax(-1) if asked else None
    for row, own in zip(rows, logits, strict=True):
        adjust(row, own)
    guided = {i: row.constraint for i, row in enumerate(rows) if row.constraint is not None}
    if guided:
        restrict(logits, list(guided), list(guided.values()))
    chosen = choose_tokens(rows, logits)
    tokens = chosen.tolist()
    for row, token in zip(rows, tokens, strict=True):
        if row.counts is not None:
            row.counts[token] += 1
    for i, constraint in guided.items():
        constraint.accept(tokens[i])
    if raw is not None:
        _keep_logprobs([rows[i] for i in asked], raw, chosen[asked])
    return tokens


def _keep_logprobs(rows: Sequence[State], raw: torch.Tensor, tokens: torch.Tensor) -> None:
    chosen = raw.gather(1, tokens.unsqueeze(1)).squeeze(1).tolist()
    most = max(row.sampling.logprobs or 0 for row in rows)
    values, ids = raw.topk(most) if most else (raw[:, :0], raw[:, :0].long())
    for row, logprob, top, top_ids in zip(rows, chosen, values.tolist(), ids.tolist(), strict=True):
        count = row.sampling.logprobs or 0
        row.logprobs.append((logprob, top_ids[:count], top[:count]))


def adjust(state: State, logits: torch.Tensor) -> None:
    """Penalties and bias of one row `[vocabulary]`, in place."""
    sampling = state.sampling
    if state.penalized:
        if state.counts is None:
            state.counts = torch.zeros_like(logits)
        logits.sub_(state.counts, alpha=sampling.frequency_penalty)
        logits.sub_((state.counts > 0).to(logits.dtype), alpha=sampling.presence_penalty)
    if sampling.logit_bias:
        ids, bias = zip(*sampling.logit_bias, strict=True)
        index = torch.tensor(ids, device=logits.device)
        logits.index_add_(0, index, torch.tensor(bias, dtype=logits.dtype, device=logits.device))


def choose_tokens(rows: Sequence[State], logits: torch.Tensor) -> torch.Tensor:
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
    rows: Sequence[State], logits: torch.Tensor, uniform: list[float]
) -> torch.Tensor:
    weights = _weights(rows, logits)
    floor = _column(weights, [row.sampling.min_p for row in rows])
    if any(row.sampling.min_p > 0 for row in rows):
        weights.masked_fill_(weights < floor, 0.0)
    return _invert(weights, uniform)


def _draw_from_likeliest(
    rows: Sequence[State], logits: torch.Tensor, uniform: list[float], count: int = CANDIDATES
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


def _weights(rows: Sequence[State], logits: torch.Tensor) -> torch.Tensor:
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


def _column(like: torch.Tensor, values: Sequence[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32, device=like.device).unsqueeze(1)
