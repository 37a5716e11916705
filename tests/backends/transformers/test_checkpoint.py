"""What cannot be loaded is refused with a sentence, without paths and without a traceback."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm_serve.config import TransformersEngine
from llm_serve.errors import InvalidRequest, LoadFailed
from llm_serve.sampling import Conversation

from ..conftest import MODEL_ID, loaded

pytestmark = pytest.mark.model


@pytest.fixture
def broken(folder: Path, tmp_path: Path) -> Path:
    """A copy of the model, its weights as a link."""
    copy = tmp_path / "model"
    copy.mkdir()
    for file in folder.iterdir():
        if file.suffix == ".safetensors":
            (copy / file.name).symlink_to(file)
        else:
            shutil.copy(file, copy)
    return copy


def refusal(folder: Path, **engine: Any) -> str:
    from llm_serve.backends.transformers import checkpoint

    with pytest.raises(LoadFailed) as raised:
        checkpoint.load(folder, MODEL_ID, TransformersEngine(**{"dtype": "float32", **engine}))
    assert str(folder) not in raised.value.message
    return raised.value.message


def rewrite(folder: Path, **fields: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | fields))


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def garbled(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).write_bytes(b"\x00" * 64)

    return change


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (without("config.json"), "missing or broken"),
        (without("model.safetensors"), "missing or broken"),
        (garbled("model.safetensors"), "broken"),
        (garbled("config.json"), "broken"),
        (garbled("tokenizer.json"), "broken"),
        (lambda f: rewrite(f, model_type="unheard-of"), "does not know"),
        (lambda f: rewrite(f, num_hidden_layers=31), "incomplete"),
        (lambda f: rewrite(f, model_type="bert", architectures=["BertForMaskedLM"]), "no decoder"),
        (lambda f: rewrite(f, model_type="t5", architectures=["T5Model"]), "no decoder"),
        (
            lambda f: rewrite(
                f, model_type="llava", architectures=["LlavaForConditionalGeneration"]
            ),
            "more than text",
        ),
    ],
)
def test_refusals(broken: Path, change: Callable[[Path], None], sentence: str) -> None:
    change(broken)
    assert sentence in refusal(broken)


def test_a_device_that_is_not_there(folder: Path) -> None:
    import torch

    if not torch.backends.mps.is_available():
        assert "mps" in refusal(folder, device="mps")


def test_too_little_memory_says_what_to_do(folder: Path) -> None:
    with pytest.raises(LoadFailed, match="kv_cache_tokens"):
        loaded(folder, kv_cache_tokens=16_000_000)


def test_without_a_chat_template_there_are_completions(broken: Path) -> None:
    (broken / "chat_template.jinja").unlink()
    backend = loaded(broken, kv_cache_tokens=256)
    try:
        with pytest.raises(InvalidRequest, match="/v1/completions"):
            backend.encode_chat(Conversation(({"role": "user", "content": "Hi"},)))
        assert backend.encode_text("Hi").token_ids
    finally:
        asyncio.run(backend.close())
