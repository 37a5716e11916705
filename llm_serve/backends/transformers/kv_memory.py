"""What the layers of a model keep of each token, found by trying; and the memory for it.

A model is run once over a few tokens with an attention function that only looks: it sees how many
heads each layer has, their sizes and its window. No configuration says this for all architectures,
and an architecture that cannot be run packed shows it here, before anything is served.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

from llm_serve.backends.transformers import attention
from llm_serve.backends.transformers.pages import PAGE_TOKENS

_PACKS = {"full_attention", "sliding_attention"}
"""Kinds of layers (`config.layer_types`) that know a token's past through attention alone."""
_MOVING_ROPE = {"dynamic", "longrope"}
"""Rotary embeddings that turn a token by more than its own position."""


class CannotPackError(Exception):
    """The architecture cannot compute the tokens of several sequences in a row."""


@dataclass(frozen=True, slots=True)
class Layer:
    """What one layer keeps of a token: keys and values, `[heads, size]` each."""

    heads: int
    key_size: int
    value_size: int
    dtype: torch.dtype
    window: int | None
    """How many tokens it sees, itself included; None for all."""


class _Look:
    """Takes the place of a step; see `attention.Attends`."""

    def __init__(self, config: Any) -> None:
        self._types = getattr(config, "layer_types", None)
        self._window = getattr(config, "sliding_window", None)
        self.layers: dict[int, Layer] = {}

    def attend(self, call: attention.Call) -> torch.Tensor:
        if call.layer in self.layers:
            raise CannotPackError(f"layer {call.layer} attends twice")
        _, heads, _, key_size = call.key.shape
        value_size = call.value.shape[-1]
        window = self._window_of(call)
        self.layers[call.layer] = Layer(heads, key_size, value_size, call.key.dtype, window)
        _, query_heads, tokens, _ = call.query.shape
        return call.query.new_zeros((1, tokens, query_heads, value_size))

    def _window_of(self, call: attention.Call) -> int | None:
        """What the model hands to its attention; some hand over a mask only, and no window."""
        if "sliding_window" in call.options:
            window: int | None = call.options["sliding_window"]
            return window
        slides = self._types is None or self._types[call.layer] == "sliding_attention"
        return self._window if slides else None


def examine(model: PreTrainedModel) -> list[Layer]:
    """The layers of `model`, which attends through `attention` from now on.

    Raises CannotPackError, or whatever the model raises when it is run.
    """
    config = model.config
    if not set(getattr(config, "layer_types", None) or []) <= _PACKS:
        raise CannotPackError(f"layers are {sorted(set(config.layer_types))}")
    if not getattr(config, "is_causal", True):
        raise CannotPackError("tokens see those after them")
    attention.install(model)
    look = _Look(config)
    ids = torch.zeros((1, 4), dtype=torch.long, device=model.device)
    positions = torch.tensor([[0, 1, 0, 1]], device=model.device)
    with torch.inference_mode():
        model(input_ids=ids, position_ids=positions, use_cache=False, paged_step=look)
    if sorted(look.layers) != list(range(config.num_hidden_layers)):
        raise CannotPackError(f"layers {sorted(look.layers)} attend")
    return [look.layers[i] for i in range(config.num_hidden_layers)]


def keeps_meaning(model: PreTrainedModel) -> bool:
    """Whether keys of one sequence are right in any other that begins alike. They are not where a
    token's rotary embedding depends on how long its sequence is."""
    rope = getattr(model.config, "rope_parameters", None) or {}
    kinds = [rope, *(value for value in rope.values() if isinstance(value, dict))]
    return not any(kind.get("rope_type") in _MOVING_ROPE for kind in kinds)


class KvMemory:
    """Keys and values of every layer, `[slots, heads, size]`, in one block of memory: a machine
    that has not enough refuses it whole. Page p is slots p * PAGE_TOKENS and on; those of page 0
    stay zero, for what pads a batch."""

    def __init__(self, layers: list[Layer], pages: int, device: torch.device) -> None:
        self.layers = layers
        slots = (pages + 1) * PAGE_TOKENS
        shapes = [
            (slots, layer.heads, size)
            for layer in layers
            for size in (layer.key_size, layer.value_size)
        ]
        sizes = [math.prod(shape) for shape in shapes]
        # On a CPU, pages of it become resident when they are first written.
        self._block = torch.empty(sum(sizes), dtype=layers[0].dtype, device=device)
        tensors = [
            part.view(shape) for part, shape in zip(self._block.split(sizes), shapes, strict=True)
        ]
        for tensor in tensors:
            tensor[:PAGE_TOKENS] = 0  # what was there before could be read as NaN
        self.keys, self.values = tensors[::2], tensors[1::2]

    @property
    def nbytes(self) -> int:
        return int(self._block.nbytes)
