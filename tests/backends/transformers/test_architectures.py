"""Small random models of many architectures, run packed, in pieces and from the cache: the tokens
are those of `model.generate`. What cannot be run so is refused before it serves anything."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import transformers  # noqa: E402

from llm_serve.backends.transformers import kv_memory  # noqa: E402
from llm_serve.backends.transformers.engine import Engine  # noqa: E402
from llm_serve.sampling import Sampling  # noqa: E402

pytestmark = pytest.mark.long

SIZES: dict[str, Any] = {
    "vocab_size": 128,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GROUPED = {**SIZES, "num_key_value_heads": 2}
MIXED = {**GROUPED, "layer_types": ["sliding_attention", "full_attention"], "sliding_window": 20}
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
SERVED: dict[str, dict[str, Any]] = {
    "Llama": GROUPED,
    "Mistral": {**GROUPED, "sliding_window": 20},
    "Mixtral": {**GROUPED, **EXPERTS, "sliding_window": None},
    "Qwen2": GROUPED,
    "Qwen3": {**MIXED, "use_sliding_window": True, "head_dim": 32},
    "Gemma2": {**MIXED, "head_dim": 16, "query_pre_attn_scalar": 16},
    "Gemma3Text": {**MIXED, "head_dim": 16, "query_pre_attn_scalar": 16},
    "GptOss": {**MIXED, **EXPERTS, "head_dim": 16},
    "Phi3": {**GROUPED, "sliding_window": 20},
    "Phimoe": {**GROUPED, **EXPERTS, "sliding_window": 20},
    "GPTNeoX": SIZES,
    "OPT": {**SIZES, "ffn_dim": 96, "word_embed_proj_dim": 64},
    "GPT2": {
        **{"vocab_size": 128, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 512},
        **{"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
    },
    "DeepseekV3": {
        **SIZES,
        **{"num_key_value_heads": 4, "q_lora_rank": 32, "kv_lora_rank": 32, "v_head_dim": 16},
        **{"qk_rope_head_dim": 16, "qk_nope_head_dim": 16, "n_routed_experts": 4, "n_group": 1},
        **{"topk_group": 1, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
    },
}
REFUSED: dict[str, dict[str, Any]] = {
    "Bloom": {"vocab_size": 128, "hidden_size": 64, "n_layer": 2, "n_head": 4},
    "Mamba": {"vocab_size": 128, "hidden_size": 64, "num_hidden_layers": 2, "state_size": 8},
    "Falcon": {**SIZES, "alibi": True},
    "FalconH1": {**GROUPED, "mamba_d_ssm": 64, "mamba_n_heads": 4, "mamba_d_head": 16},
    "Jamba": {
        **GROUPED,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "use_mamba_kernels": False,
    },
    "Qwen3Next": {**GROUPED, "layer_types": ["linear_attention", "full_attention"]},
}
PROMPTS = [
    [3 + (7 * i + 5 * j * j) % 120 for j in range(n)] for i, n in enumerate((2, 45, 70, 130))
]


def made(kind: str, fields: dict[str, Any]) -> Any:
    torch.manual_seed(5)
    config = getattr(transformers, f"{kind}Config")(**fields)
    model = transformers.AutoModelForCausalLM.from_config(config).float().eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:  # small numbers would make all tokens alike
            torch.nn.init.normal_(parameter, std=0.15)
        else:  # and those that begin as zeros would hide that they are lost
            parameter.data += torch.randn_like(parameter) * 0.3
    return model


@pytest.fixture(params=SERVED)
def model(request: pytest.FixtureRequest) -> Iterator[Any]:
    return made(request.param, SERVED[request.param])


def by_generate(model: Any, ids: list[int], tokens: int) -> list[int]:
    given = torch.tensor([ids])
    output = model.generate(
        given,
        attention_mask=torch.ones_like(given),
        max_new_tokens=tokens,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    return output[0, len(ids) :].tolist()


async def generated(engine: Engine, ids: list[int], tokens: int) -> list[int]:
    done = asyncio.get_running_loop().create_future()
    request = engine.submit(
        ids,
        Sampling(temperature=0.0, ignore_eos=True),
        tokens,
        lambda finished, error: done.set_result(error) if finished else None,
    )
    assert await done is None
    return request.generated


async def test_tokens_are_those_of_generate(model: Any) -> None:
    expected = [by_generate(model, ids, 10) for ids in PROMPTS]
    assert len({tuple(tokens) for tokens in expected}) > 2, "too alike to tell"
    longer = [PROMPTS[3] + expected[3], PROMPTS[2] + expected[2]]
    expected += [by_generate(model, ids, 10) for ids in longer]
    # Prompts are read in pieces, and not all of them fit at once.
    engine = Engine(
        model,
        kv_memory.examine(model),
        eos_token_ids=(),
        kv_cache_tokens=320,
        max_batch_tokens=48,
        max_running=4,
    )
    try:
        cold = await asyncio.gather(*(generated(engine, ids, 10) for ids in PROMPTS))
        warm = [await generated(engine, ids, 10) for ids in longer]
        assert [*cold, *warm] == expected
    finally:
        engine.stop()


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_packed_is_refused(kind: str) -> None:
    model = made(kind, REFUSED[kind])
    with pytest.raises((kv_memory.CannotPackError, TypeError, ValueError, AttributeError)):
        kv_memory.examine(model)


def test_what_turns_with_length_is_not_used_again() -> None:
    moving = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    assert kv_memory.keeps_meaning(made("Llama", GROUPED))
    assert not kv_memory.keeps_meaning(made("Llama", {**GROUPED, "rope_parameters": moving}))
