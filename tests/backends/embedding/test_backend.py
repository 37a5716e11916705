"""What the backend takes and refuses, and what it says of the model."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from llm_serve.backends import create
from llm_serve.backends.base import EmbeddingBackend
from llm_serve.config import ModelConfig
from llm_serve.errors import InvalidRequest, LoadFailed, PromptTooLong, UnsupportedParameter
from llm_serve.models.footprint import estimate
from llm_serve.sampling import Conversation, Prompt, Sampling
from tests.support.embedding_models import (
    SIZE,
    TEXTS,
    Dense,
    Normalize,
    Pooling,
    base,
    save,
)

from .conftest import Load, vectors


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole model, which no test changes."""
    root = tmp_path_factory.mktemp("embedding")
    modules = (Pooling(SIZE, "mean"), Dense(SIZE, 16), Normalize())
    return save(root / "whole", base(root / "base"), *modules)


@pytest.fixture
def broken(kept: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(kept, tmp_path / "model"))


async def test_token_ids_are_read_as_they_are(kept: Path, load: Load) -> None:
    backend = await load(kept)
    words = AutoTokenizer.from_pretrained(kept)
    ids = [tuple(words(text)["input_ids"]) for text in TEXTS]
    by_ids, by_text = await vectors(backend, ids), await vectors(backend, TEXTS)
    assert np.abs(by_ids - by_text).max() < 1e-5
    assert [backend.tokens.encode(text, special=True) for text in TEXTS] == ids
    embedded = await backend.embed((*TEXTS, *ids), None)
    assert embedded.tokens == 2 * sum(map(len, ids))


async def test_many_clients_at_once_get_their_own(kept: Path, load: Load) -> None:
    backend = await load(kept, max_batch_tokens=256)
    alone = {text: (await vectors(backend, [text]))[0] for text in TEXTS}
    parts = [TEXTS[i:] + TEXTS[:i] for i in range(len(TEXTS))]
    for part, got in zip(
        parts, await asyncio.gather(*(vectors(backend, part) for part in parts)), strict=True
    ):
        assert np.abs(got - np.array([alone[text] for text in part])).max() < 1e-5
    assert backend._engine.active == 0


@pytest.mark.parametrize(
    ("inputs", "kind", "said"),
    [
        (("vectors " * 127,), PromptTooLong, "input has 129 tokens and e takes 128"),
        (("a", "b", (5,) * 129), PromptTooLong, "input[2] has 129 tokens"),
        (((5, -1),), InvalidRequest, "from 0 to"),
        (("a", (10_000,)), InvalidRequest, "Send texts"),
        (((),), InvalidRequest, "no tokens"),
    ],
)
async def test_inputs_that_cannot_be_read_whole_are_refused(
    kept: Path, load: Load, inputs: Any, kind: type[InvalidRequest], said: str
) -> None:
    backend = await load(kept)
    with pytest.raises(kind) as raised:
        await backend.embed(inputs, None)
    assert raised.value.param == "input"
    assert said in raised.value.message
    longest = await backend.embed(((5,) * 128, "vectors " * 126), None)
    assert longest.tokens == 256


async def test_more_dimensions_than_there_are(kept: Path, load: Load) -> None:
    backend = await load(kept)
    with pytest.raises(InvalidRequest, match="16 numbers") as raised:
        await backend.embed(("a",), 17)
    assert raised.value.param == "dimensions"


async def test_it_generates_nothing(kept: Path, load: Load) -> None:
    backend = await load(kept)
    with pytest.raises(UnsupportedParameter, match="/v1/embeddings"):
        backend.encode_chat(Conversation(({"role": "user", "content": "Hi"},)))
    with pytest.raises(UnsupportedParameter, match="/v1/embeddings"):
        await anext(backend.generate(Prompt((1,)), Sampling()))


async def test_the_files_say_the_kind_where_the_configuration_does_not(kept: Path) -> None:
    model = ModelConfig.model_validate(
        {"id": "e", "source": str(kept), "engine": {"dtype": "float32", "device": "cpu"}}
    )
    backend = create(model)
    await backend.close()  # before it is loaded, as when its replica is ended early
    assert not hasattr(backend, "embed")
    info = await backend.load(lambda progress: None)
    try:
        assert info.kind == "embedding"
        assert info.context_length == 128
        assert info.details["dimensions"] == "16"
        assert info.details["pooling"] == "mean"
        assert info.details["normalized"] == "yes"
        # What an estimate says must hold what there is, and no KV cache is counted.
        assert 0 < estimate(model) - 600 * 2**20 < 20 * 2**20
        embedder: EmbeddingBackend = backend  # type: ignore[assignment]
        assert len((await embedder.embed(("a",), None)).vectors[0]) == 16
        await backend.check_health()
    finally:
        await backend.close()


def rewrite(file: str, **fields: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        value = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps(value | fields))

    return change


def retype(number: int, kind: str, **fields: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        modules = json.loads((folder / "modules.json").read_text())
        modules[number] |= {"type": f"sentence_transformers.models.{kind}", **fields}
        (folder / "modules.json").write_text(json.dumps(modules))

    return change


def pickled(folder: Path) -> None:
    file = folder / "2_Dense" / "model.safetensors"
    file.unlink()
    torch.save({}, folder / "2_Dense" / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (retype(1, "WordWeights"), "made of Transformer, WordWeights, Dense, Normalize"),
        (retype(0, "StaticEmbedding"), "made of StaticEmbedding"),
        (retype(2, "CNN"), "a module CNN, which this backend does not compute"),
        (retype(2, "Dense", path="../elsewhere"), "outside of the model"),
        (retype(2, "Dense", path="/etc"), "outside of the model"),
        (rewrite("1_Pooling/config.json", pooling_mode="median"), "pools by median"),
        (rewrite("2_Dense/config.json", activation_function="os.system"), "not torch's"),
        (rewrite("2_Dense/config.json", activation_function="torch.nn.init.ones_"), "not torch's"),
        (rewrite("2_Dense/config.json", module_input_name="token_embeddings"), "single tokens"),
        (rewrite("2_Dense/config.json", out_features=17), "could not be loaded"),
        (pickled, "pickled weights in 2_Dense"),
        (
            rewrite("sentence_bert_config.json", transformer_task="fill-mask"),
            "else than plain text",
        ),
        (
            rewrite("sentence_bert_config.json", modality_config={"text": {}, "message": {}}),
            "through a chat template",
        ),
        (rewrite("sentence_bert_config.json", processing_kwargs={"text": {}}), "a way of its own"),
        (rewrite("config_sentence_transformers.json", default_prompt_name="q"), "prompt 'q'"),
        (rewrite("config.json", num_hidden_layers=3), "incomplete"),
        (rewrite("config.json", model_type="unheard-of"), "does not know"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "missing or broken"),
        (lambda folder: (folder / "modules.json").write_text("[]"), "made of nothing"),
        (lambda folder: (folder / "modules.json").write_text("{"), "unreadable modules.json"),
        (lambda folder: (folder / "modules.json").write_text("[1]"), "unreadable modules.json"),
    ],
)
async def test_what_cannot_be_computed_is_refused(
    broken: Path, load: Load, change: Callable[[Path], None], sentence: str
) -> None:
    change(broken)
    with pytest.raises(LoadFailed) as raised:
        await load(broken)
    assert sentence in raised.value.message
    assert str(broken) not in raised.value.message
