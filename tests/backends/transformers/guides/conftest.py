"""A tokenizer whose tokens are bytes and a small random model, which needs no download."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("llguidance")

import tokenizers  # noqa: E402
import transformers  # noqa: E402

from llm_serve.backends.transformers.backend import TransformersBackend  # noqa: E402
from llm_serve.backends.transformers.guides import trial  # noqa: E402
from llm_serve.backends.transformers.guides.guides import Guides  # noqa: E402

from ...conftest import loaded  # noqa: E402

EOS, OTHER_EOS, THINK_END = 256, 257, 258
SPECIAL = ["<eos>", "<also eos>", "<end of thought>"]
LOGITS = 272
"""More than there are tokens, as many models have."""


@pytest.fixture(scope="session")
def bytewise() -> Any:
    """The first 256 tokens are the bytes, in an order of its own, then come the special ones."""
    letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    model = tokenizers.models.BPE(vocab={c: i for i, c in enumerate(letters)}, merges=[])
    raw = tokenizers.Tokenizer(model)
    raw.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    raw.decoder = tokenizers.decoders.ByteLevel()
    raw.add_special_tokens([tokenizers.AddedToken(text, special=True) for text in SPECIAL])
    return transformers.PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<eos>")


@pytest.fixture(scope="session")
def vocabulary(bytewise: Any) -> Any:
    return trial.tokenizer(bytewise.backend_tokenizer.to_str(), LOGITS, [EOS, OTHER_EOS])


@pytest.fixture
def guides(bytewise: Any) -> Iterator[Guides]:
    guides = Guides(bytewise, LOGITS, (EOS, OTHER_EOS))
    yield guides
    guides.close()


@pytest.fixture(scope="session")
def random_folder(bytewise: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("random-model")
    torch.manual_seed(5)
    config = transformers.LlamaConfig(
        vocab_size=LOGITS,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=4096,
        eos_token_id=[EOS, OTHER_EOS],
        bos_token_id=EOS,
    )
    transformers.LlamaForCausalLM(config).float().save_pretrained(folder)
    bytewise.save_pretrained(folder)
    generation = {"eos_token_id": [EOS, OTHER_EOS]}
    (folder / "generation_config.json").write_text(json.dumps(generation))
    return folder


@pytest.fixture(scope="session")
def small(random_folder: Path) -> Iterator[TransformersBackend]:
    backend = loaded(random_folder)
    yield backend
    asyncio.run(backend.close())


@pytest.fixture(scope="session")
def small_and_cramped(random_folder: Path) -> Iterator[TransformersBackend]:
    backend = loaded(random_folder, kv_cache_tokens=256, max_batch_tokens=64)
    yield backend
    asyncio.run(backend.close())
