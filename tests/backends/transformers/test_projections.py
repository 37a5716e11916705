"""What `prepare` makes of a model computes what the model computed."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from llm_serve.backends.transformers import private, projections

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 128,
}


def fresh(kind: str, dtype: torch.dtype) -> torch.nn.Module:
    torch.manual_seed(3)
    model = (
        LlamaForCausalLM(LlamaConfig(**SIZES))
        if kind == "llama"
        else Qwen2ForCausalLM(Qwen2Config(**SIZES))  # with biases on q, k and v
    )
    for parameter in model.parameters():  # biases begin as zeros, which would hide a lost one
        torch.nn.init.normal_(parameter, std=0.2)
    return model.to(dtype).eval()


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tokens", [1, 7])
@torch.inference_mode()
def test_a_prepared_model_computes_the_same(kind: str, dtype: torch.dtype, tokens: int) -> None:
    ids = torch.arange(tokens)[None]
    expected = fresh(kind, dtype)(ids).logits
    model = fresh(kind, dtype)
    linears = sum(type(m) is torch.nn.Linear for m in model.modules())
    projections.prepare(model)
    left = sum(isinstance(m, torch.nn.Linear | projections._Packed) for m in model.modules())
    assert (linears, left) == (2 * 7 + 1, 2 * 4 + 1)
    for _ in range(2):
        logits = model(ids).logits
        if dtype is torch.float32:
            torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)
        else:
            torch.testing.assert_close(logits, expected, rtol=0.05, atol=0.1)


def test_the_private_operators_of_torch_are_there() -> None:
    """Where this fails, `private` says what to do; the server goes on without them."""
    capabilities = torch.cpu.get_capabilities()
    if not (capabilities.get("avx512") or capabilities.get("avx2")):
        pytest.skip("oneDNN has no bfloat16 on this processor")
    assert private.packing_works()


@pytest.mark.parametrize("lost", ["pack", "multiply"])
def test_without_them_plain_layers_stay(lost: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*args: object) -> None:
        raise AttributeError(lost)

    monkeypatch.setattr(private, lost, gone)
    private.packing_works.cache_clear()
    try:
        model = fresh("llama", torch.bfloat16)
        projections.prepare(model)
        assert not any(isinstance(m, projections._Packed) for m in model.modules())
        assert model(torch.arange(3)[None]).logits.isfinite().all()
    finally:
        private.packing_works.cache_clear()


def test_layers_of_other_kinds_stay() -> None:
    model = fresh("llama", torch.float32)
    attention = model.model.layers[0].self_attn

    class Adapted(torch.nn.Linear):
        pass

    attention.k_proj = Adapted(64, 32)
    before = attention.q_proj
    projections.prepare(model)
    assert attention.q_proj is before
    assert type(attention.k_proj) is Adapted
