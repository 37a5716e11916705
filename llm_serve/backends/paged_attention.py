"""Attention over the paged KV cache, sequence by sequence instead of all against all.

Transformers' own path without FlashAttention lays the keys of all sequences side by side and masks
what does not belong together: its cost is quadratic in the number of sequences. `paged_step` says
how it is done here.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from llm_serve.backends.paged_step import FULL, step_of

NAME = "llm_serve_paged"


def fits(model: PreTrainedModel) -> bool:
    """Whether the model's attention is the plain kind that is done here."""
    config = model.config
    return (
        config._attn_implementation == "sdpa"
        and getattr(config, "sliding_window", None) is None
        and set(getattr(config, "layer_types", None) or [FULL]) == {FULL}
    )


def install(model: PreTrainedModel) -> None:
    """From now on the model attends through `attend`; without a paged cache as it did before."""
    AttentionInterface.register(NAME, attend)
    model.set_attn_implementation(NAME)


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    cache: Any = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Transformers' attention interface: `query` is `[1, heads, tokens, head_dim]` with the tokens
    of all sequences of the step in a row; the result is `[1, tokens, heads, head_dim]`."""
    if cache is None:
        output, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
        return output, None
    step = step_of(cache, query.dtype, kwargs)
    layer: int = module.layer_idx
    allocator = cache.layer_to_allocator[layer]
    new_keys, new_values = key[0].transpose(0, 1), value[0].transpose(0, 1)
    nothing = step.written[:0]  # no reads: they are ours
    allocator.update(new_keys, new_values, layer, nothing, step.written)
    keys, values = (
        pages.view(-1, *pages.shape[2:]) for pages in allocator.get_cache_for_block_table(layer)
    )
    _, heads, tokens, head_dim = query.shape
    output = query.new_empty((1, tokens, heads, head_dim))
    for decode in step.decodes:
        decode.attend(query, keys, values, scaling, step.buffers, output)
    for prefill in step.prefills:
        prefill.attend(query, key, value, keys, values, scaling, output)
    return output, None
