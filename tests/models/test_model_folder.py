import json
from collections.abc import Callable
from pathlib import Path

import pytest

from llm_serve.config import ModelConfig
from llm_serve.errors import LoadFailed
from llm_serve.models import is_cached, resolve, weights_bytes

Damage = Callable[[Path], object]


def config(folder: Path | str) -> ModelConfig:
    return ModelConfig(id="m", source=str(folder))


def test_a_good_folder_is_used_in_place(
    tmp_path: Path, model_folder: Callable[..., Path], cache: Path
) -> None:
    folder = model_folder(tmp_path / "model", size=5000)
    assert is_cached(config(folder))
    assert resolve(config(folder)) == folder
    assert weights_bytes(folder) == (folder / "model.safetensors").stat().st_size > 5000
    assert not cache.exists()


def test_home_and_relative_folders(
    tmp_path: Path, model_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = model_folder(tmp_path / "model")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert resolve(config("~/model")) == folder
    assert resolve(config("./model")) == folder


def cut(file: str) -> Damage:
    def damage(folder: Path) -> None:
        whole = (folder / file).read_bytes()
        (folder / file).write_bytes(whole[:-1])

    return damage


def only_pickles(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def missing_shard(folder: Path) -> None:
    index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
        (lambda folder: (folder / "config.json").write_text("[]"), "unreadable config.json"),
        (cut("config.json"), "unreadable config.json"),
        (lambda folder: (folder / "model.safetensors").unlink(), "no weights"),
        (only_pickles, "pickled"),
        (missing_shard, "lacks 1 of 2 weight files: model-2.safetensors"),
        (cut("model.safetensors"), "cut-off model.safetensors"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"abc"), "cut-off"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\xff" * 99), "cut-off"),
    ],
)
def test_a_wrong_folder_is_named_with_what_is_wrong(
    tmp_path: Path, model_folder: Callable[..., Path], damage: Damage, words: str
) -> None:
    folder = model_folder(tmp_path / "model")
    damage(folder)
    assert not is_cached(config(folder))
    with pytest.raises(LoadFailed) as caught:
        resolve(config(folder))
    assert words in caught.value.message


@pytest.mark.parametrize("source", ["./nowhere", "./a.gguf", "~no-such-user/model"])
def test_clients_are_shown_no_folder_and_the_person_the_one_in_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    (tmp_path / "a.gguf").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LoadFailed) as caught:
        resolve(config(source))
    assert source in caught.value.detail
    assert "/" not in caught.value.message
    assert "The model folder of " in caught.value.message
    assert not is_cached(config(source))


def embedding(folder: Path) -> None:
    """Makes it one of sentence-transformers' with a projection."""
    kinds = ("Transformer", "Pooling", "Dense", "Normalize")
    modules = [
        {"idx": i, "path": f"{i}_{kind}" if i else "", "type": f"sentence_transformers.x.{kind}"}
        for i, kind in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    for part in ("1_Pooling", "2_Dense"):
        (folder / part).mkdir()
        (folder / part / "config.json").write_text("{}")
    (folder / "2_Dense" / "model.safetensors").write_bytes(
        (folder / "model.safetensors").read_bytes()
    )


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "1_Pooling" / "config.json").unlink(), "1_Pooling/config.json"),
        (cut("2_Dense/model.safetensors"), "cut-off model.safetensors"),
        (lambda folder: only_pickles(folder / "2_Dense"), "pickled weights in 2_Dense"),
        (lambda folder: (folder / "modules.json").write_text("{"), "unreadable modules.json"),
        (lambda folder: (folder / "modules.json").write_text("[1]"), "unreadable modules.json"),
    ],
)
def test_the_parts_of_an_embedding_model_are_looked_at(
    tmp_path: Path, model_folder: Callable[..., Path], damage: Damage, words: str
) -> None:
    folder = model_folder(tmp_path / "model")
    embedding(folder)
    assert resolve(config(folder)) == folder
    damage(folder)
    assert not is_cached(config(folder))
    with pytest.raises(LoadFailed) as caught:
        resolve(config(folder))
    assert words in caught.value.message
