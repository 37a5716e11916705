"""What is used of torch that torch does not promise to keep: two operators, tried before use.

Written for torch 2.13. They are those to which torch's own compiler lowers the linear layers of a
frozen model: one puts a weight in the order in which oneDNN reads it, one multiplies with it. Where
they are gone or compute something else, `packing_works` says no, the plain `nn.Linear` stays, and a
token in bfloat16 takes half as long again on a CPU. A test fails then, on a processor that can use
them: look into `torch/_inductor/mkldnn_lowerings.py` for what they are called now, or delete this
module and `projections._Packed`.
"""

from __future__ import annotations

from functools import cache

import torch


@cache
def packing_works() -> bool:
    """Whether the two operators are there, run on this processor, and compute a linear layer."""
    if not torch.backends.mkldnn.is_available():
        return False
    value = torch.linspace(-1, 1, 128).view(2, 64).bfloat16()
    weight = torch.linspace(-1, 1, 2048).view(32, 64).bfloat16()
    bias = torch.linspace(-1, 1, 32).bfloat16()
    try:
        product = multiply(value, pack(weight), bias)
    except Exception:  # whatever an operator raises that has changed
        return False
    expected = torch.nn.functional.linear(value, weight, bias)
    same_shape = product.shape == expected.shape
    return same_shape and bool(torch.allclose(product, expected, 0.05, 0.1))


def pack(weight: torch.Tensor) -> torch.Tensor:
    """`weight` in an order that only `multiply` can read."""
    packed: torch.Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, None)
    return packed


def multiply(value: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """What `torch.nn.functional.linear` computes."""
    product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(value, weight, bias, "none", [], "")
    return product
