"""What one forward pass attends to: planned once, then done layer by layer.

Sequences that decode one token are gathered into padded batches of similar length; those that read
their prompt are attended one by one. Keys and values are gathered into buffers that stay, because
on a CPU fresh memory costs more than the copy.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch.nn.functional import scaled_dot_product_attention

FULL = "full_attention"


@dataclass(slots=True)
class Decode:
    """Sequences of similar length that get one token each."""

    rows: torch.Tensor | None
    """Which tokens of the step they are; None for all, in order."""
    index: torch.Tensor
    """Their cached tokens, `[sequences * longest]`, the shorter ones padded."""
    mask: torch.Tensor
    """Added to the scores: `[sequences, 1, 1, longest]`."""

    def attend(
        self,
        query: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        scaling: float | None,
        buffers: Buffers,
        output: torch.Tensor,
    ) -> None:
        count, longest = self.mask.shape[0], self.mask.shape[-1]
        kv_heads, head_dim = keys.shape[1:]
        q = query[0].transpose(0, 1)
        if self.rows is not None:
            q = q[self.rows]
        # The query heads that share a key head become rows of one product with it.
        q = q.reshape(count, kv_heads, -1, head_dim)
        k, v = (
            gathered.view(count, longest, kv_heads, head_dim).transpose(1, 2)
            for gathered in buffers.gather(keys, values, self.index)
        )
        attended = scaled_dot_product_attention(q, k, v, attn_mask=self.mask, scale=scaling)
        attended = attended.reshape(count, -1, head_dim)
        if self.rows is None:
            output[0] = attended
        else:
            output[0, self.rows] = attended


@dataclass(slots=True)
class Prefill:
    """A sequence that reads several tokens, some of which may follow on a cached beginning."""

    tokens: slice
    index: torch.Tensor | None
    """Its cached tokens, the new ones included; None if there are only new ones."""
    mask: torch.Tensor | None
    """Causal, `[new, all]`; None if there are only new ones."""

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        scaling: float | None,
        output: torch.Tensor,
    ) -> None:
        if self.index is None:
            k, v = key[:, :, self.tokens], value[:, :, self.tokens]
        else:
            k, v = (kv[self.index].transpose(0, 1).unsqueeze(0) for kv in (keys, values))
        attended = scaled_dot_product_attention(
            query[:, :, self.tokens],
            k,
            v,
            attn_mask=self.mask,
            is_causal=self.mask is None,
            scale=scaling,
            enable_gqa=True,
        )
        output[:, self.tokens] = attended.transpose(1, 2)


class Buffers:
    """Memory for gathered keys and values, used again by every layer and step."""

    def __init__(self) -> None:
        self._both: torch.Tensor | None = None

    def gather(
        self, keys: torch.Tensor, values: torch.Tensor, index: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        size = index.shape[0]
        if self._both is None or self._both.shape[1] < size:
            self._both = keys.new_empty((2, size + size // 2, *keys.shape[1:]))
        k, v = self._both[:, :size]
        return torch.index_select(keys, 0, index, out=k), torch.index_select(
            values, 0, index, out=v
        )


@dataclass(slots=True)
class Step:
    """What all layers of one forward pass have in common."""

    mark: torch.Tensor
    """A tensor that is passed to every layer of this step and to no other step."""
    written: torch.Tensor
    """Where the new tokens go in the cache."""
    decodes: list[Decode]
    prefills: list[Prefill]
    buffers: Buffers


_steps: WeakKeyDictionary[Any, Step] = WeakKeyDictionary()
"""The current step of every cache, that is of every engine."""


def step_of(cache: Any, dtype: torch.dtype, kwargs: dict[str, Any]) -> Step:
    """The plan for the forward pass that these arguments of a layer belong to."""
    mark: torch.Tensor = kwargs["cu_seq_lens_q"]
    step = _steps.get(cache)
    if step is not None and step.mark is mark:
        return step
    buffers = step.buffers if step is not None else Buffers()
    table: torch.Tensor | None = kwargs.get("block_table")
    lengths = kwargs["cu_seq_lens_k"][FULL].diff()
    if table is not None:
        page = cache.cache_allocators[FULL].tokens_per_page
        written, decodes = _all_decode(table[0], lengths, page, dtype)
        step = Step(mark, written, decodes, [], buffers)
    else:
        read: torch.Tensor = kwargs["read_index"][0]
        decodes, prefills = _mixed(mark.diff().tolist(), lengths.tolist(), read, dtype)
        step = Step(mark, kwargs["write_index"][0], decodes, prefills, buffers)
    _steps[cache] = step
    return step


def _all_decode(
    table: torch.Tensor, lengths: torch.Tensor, page: int, dtype: torch.dtype
) -> tuple[torch.Tensor, list[Decode]]:
    """Every sequence gets one token; `table` has their pages in rows."""
    most = -(-int(lengths.max()) // page)
    start = table[:, :most].clamp(min=0).long() * page
    last = (lengths - 1).long()
    written = start.gather(1, (last // page).unsqueeze(1)).squeeze(1) + last % page
    offsets = torch.arange(page, device=table.device)
    decodes = []
    groups = _by_length(lengths.tolist())
    for rows in groups:
        only = None if len(groups) == 1 else torch.tensor(rows, device=table.device)
        its_lengths = lengths if only is None else lengths[only]
        pages = start if only is None else start[only]
        longest = -(-int(its_lengths.max()) // page)
        index = (pages[:, :longest].unsqueeze(2) + offsets).flatten()
        decodes.append(Decode(only, index, _padding_mask(its_lengths, longest * page, dtype)))
    return written, decodes


def _mixed(
    new: list[int], lengths: list[int], read: torch.Tensor, dtype: torch.dtype
) -> tuple[list[Decode], list[Prefill]]:
    """Sequences with one or more new tokens; `read` has their cached tokens in a row, or nothing if
    none had any before this step."""
    prefills: list[Prefill] = []
    decoding: list[tuple[int, torch.Tensor]] = []
    token = at = 0
    for count, length in zip(new, lengths, strict=True):
        cached = read[at : at + length] if len(read) else None
        tokens = slice(token, token + count)
        if count == length:
            prefills.append(Prefill(tokens, None, None))
        elif count == 1 and cached is not None:
            decoding.append((token, cached))
        else:
            shape = (count, length)
            causal = torch.full(shape, float("-inf"), dtype=dtype, device=read.device)
            prefills.append(Prefill(tokens, cached, causal.triu_(length - count + 1)))
        token += count
        at += length
    decodes = []
    for group in _by_length([len(cached) for _, cached in decoding]):
        members = [decoding[i] for i in group]
        index = torch.nn.utils.rnn.pad_sequence([cached for _, cached in members], batch_first=True)
        its_lengths = torch.tensor([len(cached) for _, cached in members], device=read.device)
        rows = torch.tensor([token for token, _ in members], device=read.device)
        mask = _padding_mask(its_lengths, index.shape[1], dtype)
        decodes.append(Decode(rows, index.flatten(), mask))
    return decodes, prefills


def _by_length(lengths: Sequence[int]) -> list[list[int]]:
    """Positions grouped so that padding at most doubles a member; short ones share a group."""
    groups: dict[int, list[int]] = defaultdict(list)
    for i, length in enumerate(lengths):
        groups[max(length - 1, 255).bit_length()].append(i)
    return list(groups.values())


def _padding_mask(lengths: torch.Tensor, longest: int, dtype: torch.dtype) -> torch.Tensor:
    columns = torch.arange(longest, device=lengths.device)
    mask = torch.zeros((len(lengths), longest), dtype=dtype, device=lengths.device)
    return mask.masked_fill_(columns >= lengths.unsqueeze(1), float("-inf"))[:, None, None]
