"""Attention over the paged KV cache, sequence by sequence instead of all against all.

Sequences that get one token are gathered into padded batches of similar length; those that read a
prompt are attended one by one. Keys and values are gathered into buffers that stay, because on a
CPU fresh memory costs more than the copy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel

NAME = "llm_serve_paged"


@dataclass(frozen=True, slots=True)
class Call:
    """What a layer hands to its attention function. `query` is `[1, heads, tokens, size]` with the
    tokens of all sequences of the step in a row; `key` and `value` are those of the same tokens."""

    layer: int
    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    scaling: float | None
    options: dict[str, Any]

    @property
    def sink(self) -> torch.Tensor | None:
        """A score per query head that takes its share of the softmax and has no value."""
        return self.options.get("s_aux")


class Attends(Protocol):
    """What a forward pass brings along as `paged_step`, for all its layers."""

    def attend(self, call: Call) -> torch.Tensor:
        """The result is `[1, tokens, heads, size of a value]`."""


def install(model: PreTrainedModel) -> None:
    """From now on the model attends through a `paged_step`, which every call must bring along.
    Masks are ours to make: transformers makes none for an attention that it does not know."""
    AttentionInterface.register(NAME, _attention)
    model.set_attn_implementation(NAME)


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    *,
    paged_step: Attends,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Transformers' attention interface."""
    layer: int = module.layer_idx
    return paged_step.attend(Call(layer, query, key, value, scaling, options)), None


class Buffers:
    """Memory for gathered keys and values, used again by every layer and step."""

    def __init__(self) -> None:
        self._rows: dict[str, torch.Tensor] = {}

    def gather(self, which: str, source: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """The rows of `source` at `index`, until the next call for the same `which`."""
        size, rows = index.shape[0], self._rows.get(which)
        if rows is None or rows.shape[0] < size or rows.shape[1:] != source.shape[1:]:
            rows = source.new_empty((size + size // 2, *source.shape[1:]))
            self._rows[which] = rows
        return torch.index_select(source, 0, index, out=rows[:size])


@dataclass(slots=True)
class Decode:
    """Sequences of similar length that get one token each."""

    rows: torch.Tensor | None
    """Which tokens of the step they are; None for all, in order."""
    index: torch.Tensor
    """The slots of their tokens, `[sequences * longest]`, the shorter ones padded."""
    mask: torch.Tensor
    """Added to the scores: `[sequences, 1, 1, longest]`."""

    def attend(
        self,
        call: Call,
        keys: torch.Tensor,
        values: torch.Tensor,
        buffers: Buffers,
        output: torch.Tensor,
    ) -> None:
        count, longest = self.mask.shape[0], self.mask.shape[-1]
        heads = keys.shape[1]
        q = call.query[0].transpose(0, 1)
        if self.rows is not None:
            q = q[self.rows]
        # The query heads that share a key head become rows of one product with it.
        q = q.reshape(count, heads, -1, q.shape[-1])
        k = buffers.gather("keys", keys, self.index).view(count, longest, *keys.shape[1:])
        v = buffers.gather("values", values, self.index).view(count, longest, *values.shape[1:])
        k, v, mask = k.transpose(1, 2), v.transpose(1, 2), self.mask
        if call.sink is not None:
            k, v, mask = _with_sink(k, v, mask, call.sink.view(1, heads, -1, 1))
        attended = scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=call.scaling)
        attended = attended.reshape(count, -1, v.shape[-1])
        if self.rows is None:
            output[0] = attended
        else:
            output[0, self.rows] = attended


@dataclass(slots=True)
class Prefill:
    """A sequence that reads several tokens, some of which may follow on a cached beginning."""

    tokens: slice
    index: torch.Tensor | None
    """The slots of its tokens, the new ones included; None if there are only new ones."""
    mask: torch.Tensor | None
    """Added to the scores: `[new, all]`; None if there are only new ones."""
    _tiled: torch.Tensor | None = None

    def attend(
        self,
        call: Call,
        keys: torch.Tensor,
        values: torch.Tensor,
        buffers: Buffers,
        output: torch.Tensor,
    ) -> None:
        q = call.query[:, :, self.tokens]
        _, query_heads, count, _ = q.shape
        if self.index is None:
            k, v = call.key[:, :, self.tokens], call.value[:, :, self.tokens]
        else:
            k = buffers.gather("keys", keys, self.index).transpose(0, 1).unsqueeze(0)
            v = buffers.gather("values", values, self.index).transpose(0, 1).unsqueeze(0)
        if self.mask is None and call.sink is None:
            attended = scaled_dot_product_attention(
                q, k, v, is_causal=True, scale=call.scaling, enable_gqa=True
            )
        else:
            heads = k.shape[1]
            mask = self._rows(query_heads // heads, q)
            if call.sink is not None:
                sink = call.sink.view(1, heads, -1).repeat_interleave(count, dim=-1).unsqueeze(-1)
                k, v, mask = _with_sink(k, v, mask, sink)
            q = q.reshape(1, heads, -1, q.shape[-1])
            attended = scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=call.scaling)
            attended = attended.view(1, query_heads, count, -1)
        output[:, self.tokens] = attended.transpose(1, 2)

    def _rows(self, group: int, q: torch.Tensor) -> torch.Tensor:
        """The mask for query heads that share a key head, as rows of one product with it: kernels
        that are fast with a mask know no shared heads."""
        if self.mask is None:
            count = q.shape[2]
            self.mask = q.new_full((count, count), float("-inf")).triu_(1)
        if self._tiled is None or self._tiled.shape[2] != group * self.mask.shape[0]:
            self._tiled = self.mask.repeat(group, 1)[None, None]
        return self._tiled


def _with_sink(
    k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor, sink: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The sink as one more key, whose score is all in the mask."""
    k, v = (torch.cat([kv, kv.new_zeros((*kv.shape[:2], 1, kv.shape[3]))], dim=2) for kv in (k, v))
    rows = torch.broadcast_shapes(mask.shape[:-1], sink.shape[:-1])
    columns = [mask.expand(*rows, -1), sink.to(mask.dtype).expand(*rows, 1)]
    return k, v, torch.cat(columns, dim=-1)
