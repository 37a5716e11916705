"""The linear layers of a model, made ready for steps of few tokens.

Such a step does little but stream the weights through the cores. Layers that read the same input
become one product, because each product costs a start and a barrier; on a CPU in bfloat16 oneDNN
gets its weights in the order in which it reads them, else it reorders them in every product.

Measured on 2 cores, SmolLM2-135M in bfloat16, all products of one token: 15.0 ms as loaded, 13.2 ms
fused, 9 ms fused and packed (`bench/engine.py` shows the effect on tokens/s).
"""

from __future__ import annotations

import torch
from torch import nn

from llm_serve.backends.transformers import private

GROUPS = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Names by which transformers' models call layers of one input, in the order of the calls."""


def prepare(model: nn.Module) -> None:
    """Replaces the plain linear layers in `model`; what it computes stays the same."""
    for module in list(model.modules()):
        for names in GROUPS:
            layers = [getattr(module, name, None) for name in names]
            if not all(type(layer) is nn.Linear for layer in layers):
                continue
            linears = [layer for layer in layers if isinstance(layer, nn.Linear)]
            if len({(layer.in_features, layer.bias is None) for layer in linears}) == 1:
                product = _Product(linears)
                for index, name in enumerate(names):
                    setattr(module, name, _ProductPart(product, index))
    for module in list(model.modules()):
        for name, layer in list(module.named_children()):
            if type(layer) is nn.Linear and _packs(layer):
                setattr(module, name, _Packed(layer))


def _packs(layer: nn.Linear) -> bool:
    return (
        layer.weight.device.type == "cpu"
        and layer.weight.dtype is torch.bfloat16
        and private.packing_works()
    )


class _Packed(nn.Module):  # type: ignore[misc]
    """A linear layer whose weight only oneDNN can read."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self._weight = private.pack(layer.weight.detach())
        self._bias = None if layer.bias is None else layer.bias.detach()

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        return private.multiply(value, self._weight, self._bias)


class _Product(nn.Module):  # type: ignore[misc]
    """Several layers in one, computed when the first is asked for and kept until the last was."""

    def __init__(self, layers: list[nn.Linear]) -> None:
        super().__init__()
        weight = torch.cat([layer.weight.detach() for layer in layers])
        whole = nn.Linear(layers[0].in_features, len(weight), layers[0].bias is not None, "meta")
        whole.weight = nn.Parameter(weight, requires_grad=False)
        if whole.bias is not None:
            bias = torch.cat([layer.bias.detach() for layer in layers])
            whole.bias = nn.Parameter(bias, requires_grad=False)
        self.whole = whole
        self._sizes = [layer.out_features for layer in layers]
        self._input: torch.Tensor | None = None
        self._parts: tuple[torch.Tensor, ...] = ()

    def part(self, value: torch.Tensor, index: int) -> torch.Tensor:
        if value is not self._input:
            self._input, self._parts = value, self.whole(value).split(self._sizes, dim=-1)
        part = self._parts[index]
        if index == len(self._sizes) - 1:
            self._input, self._parts = None, ()
        return part


class _ProductPart(nn.Module):  # type: ignore[misc]
    """One of the layers that became a product, in the place of that layer."""

    def __init__(self, product: _Product, index: int) -> None:
        super().__init__()
        self.product = product
        self._index = index

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        return self.product.part(value, self._index)
