from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from llm_serve.backends.transformers.backend import TransformersBackend
from llm_serve.config import ModelConfig, SamplingDefaults, TransformersEngine, default_config
from llm_serve.sampling import Conversation, Delta, Prompt, Sampling
from tests.support.client import Api
from tests.support.inprocess import serving

MODEL_ID = "smol"
DEFAULT_MAX_TOKENS = 48


@pytest.fixture(scope="session")
def folder() -> Path:
    """The default model; `LLM_SERVE_TEST_MODEL` names a folder that already holds it."""
    if given := os.environ.get("LLM_SERVE_TEST_MODEL"):
        return Path(given)
    from llm_serve.models import resolve

    return resolve(default_config().default_model)


def loaded(folder: Path, **engine: Any) -> TransformersBackend:
    config = ModelConfig(
        id=MODEL_ID,
        source=str(folder),
        defaults=SamplingDefaults(max_tokens=DEFAULT_MAX_TOKENS),
        engine=TransformersEngine(**{"dtype": "float32", "device": "cpu", **engine}),
    )
    backend = TransformersBackend(config)
    asyncio.run(backend.load(lambda progress: None))
    return backend


@pytest.fixture(scope="session")
def backend(folder: Path) -> Iterator[TransformersBackend]:
    backend = loaded(folder)
    yield backend
    asyncio.run(backend.close())


@pytest.fixture(scope="package")
def api(backend: TransformersBackend) -> Iterator[Api]:
    """The app over the real small model."""
    model = {"id": MODEL_ID, "source": "/there/already"}
    with serving(model, loaded={MODEL_ID: backend}) as api:
        yield api


@pytest.fixture(scope="session")
def cramped(folder: Path) -> Iterator[TransformersBackend]:
    """One with the smallest KV cache there is."""
    backend = loaded(folder, kv_cache_tokens=256, max_batch_tokens=64)
    yield backend
    asyncio.run(backend.close())


@pytest.fixture(scope="session")
def reference(folder: Path) -> Any:
    """The model as transformers alone runs it."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype="float32", local_files_only=True)


@pytest.fixture(scope="session")
def tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


Greedy = Callable[[Prompt, int], str]


@pytest.fixture(scope="session")
def by_generate(reference: Any, tokenizer: Any) -> Greedy:
    """What `model.generate` answers, greedily."""
    import torch

    def answer(prompt: Prompt, max_tokens: int) -> str:
        ids = torch.tensor([prompt.token_ids])
        output = reference.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=max_tokens,
            do_sample=False,
            pad_token_id=0,
        )
        return str(tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True))

    return answer


class Answer:
    """All deltas of one sequence."""

    def __init__(self, deltas: list[Delta]) -> None:
        self.deltas = deltas
        self.text = "".join(delta.text for delta in deltas)
        self.tokens = sum(delta.tokens for delta in deltas)
        self.finish_reason = deltas[-1].finish_reason
        self.logprobs = [logprob for delta in deltas for logprob in delta.logprobs]
        assert all(delta.finish_reason is None for delta in deltas[:-1])


async def ask(backend: TransformersBackend, prompt: Prompt, **sampling: Any) -> Answer:
    sampling = {"temperature": 0.0, **sampling}
    deltas: AsyncGenerator[Delta, None] = backend.generate(prompt, Sampling(**sampling))
    async with aclosing(deltas):
        return Answer([delta async for delta in deltas])


def chat(backend: TransformersBackend, text: str) -> Prompt:
    return backend.encode_chat(Conversation(({"role": "user", "content": text},)))
