"""The real huggingface_hub client against a small fake of the hub's endpoints on loopback."""

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import constants
from safetensors.numpy import save

from llm_serve.config import ModelConfig
from llm_serve.errors import LoadFailed
from llm_serve.models import is_cached, resolve
from llm_serve.models.fetch import subprocess_runner
from llm_serve.progress import LoadProgress

COMMIT = "c" * 40


class Hub:
    """Serves `files` as the repository org/name; `gate` answers every file with this error."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.gate: tuple[int, str] | None = None
        self.fetched: list[str] = []
        self.hold: threading.Event | None = None
        self.half_sent = threading.Event()
        self.claimed: int | None = None  # bytes that the weights are said to have
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self._answer(body=False)

            def do_GET(self) -> None:
                self._answer(body=True)

            def _answer(self, *, body: bool) -> None:
                path = self.path.split("?")[0]
                tree = f"/api/models/org/name/tree/{COMMIT}"
                if path == "/api/models/org/name/revision/main":
                    info = {"_id": "1", "id": "org/name", "sha": COMMIT, "siblings": []}
                    self._send(200, {}, json.dumps(info).encode(), body=body)
                elif path == tree:
                    listed = [hub.entry(name) for name in hub.files]
                    self._send(200, {}, json.dumps(listed).encode(), body=body)
                elif path.startswith("/api/models/org/name/revision/"):
                    self._send(404, {"X-Error-Code": "RevisionNotFound"}, b"{}", body=body)
                elif path.startswith(f"/org/name/resolve/{COMMIT}/"):
                    self._file(path.partition(f"{COMMIT}/")[2], body=body)
                else:
                    self._send(404, {"X-Error-Code": "RepoNotFound"}, b"{}", body=body)

            def _file(self, name: str, *, body: bool) -> None:
                if hub.gate is not None:
                    self._send(hub.gate[0], {"X-Error-Code": hub.gate[1]}, b"{}", body=body)
                    return
                if body:
                    hub.fetched.append(name)
                etag = hub.blob(name)
                size = str(hub.entry(name)["size"])
                headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{etag}"', "X-Linked-Size": size}
                self._send(200, headers, hub.files[name], body=body)

            def _send(
                self, status: int, headers: dict[str, str], data: bytes, *, body: bool
            ) -> None:
                self.send_response(status)
                kind = "application/json" if data[:1] in (b"{", b"[") else "application/binary"
                for name, value in {"Content-Type": kind, **headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                half = len(data) // 2
                try:
                    if body and hub.hold is not None and kind == "application/binary":
                        self.wfile.write(data[:half])
                        self.wfile.flush()
                        hub.half_sent.set()
                        hub.hold.wait(60)
                        data = data[half:]
                    if body:
                        self.wfile.write(data)
                except OSError:
                    pass  # the client was killed, as the test wants

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))

    def blob(self, name: str) -> str:
        """As the hub names blobs: sha256 for large files, git's sha1 for others."""
        data = self.files[name]
        if name.endswith(".safetensors"):
            return hashlib.sha256(data).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

    def entry(self, name: str) -> dict[str, Any]:
        size, blob = len(self.files[name]), self.blob(name)
        entry = {"type": "file", "path": name, "size": size, "oid": blob[:40]}
        if len(blob) == 64:
            size = entry["size"] = self.claimed or size
            entry["lfs"] = {"oid": blob, "size": size, "pointerSize": 130}
        return entry


@pytest.fixture
def hub(
    tmp_path: Path, model_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Hub]:
    packed = model_folder(tmp_path / "packed", size=300_000)
    files = {file.name: file.read_bytes() for file in packed.iterdir()}
    files["pytorch_model.bin"] = b"a pickle"
    hub = Hub(files)
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{hub.server.server_port}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
    hub.thread.start()
    yield hub
    if hub.hold is not None:
        hub.hold.set()
    hub.server.shutdown()
    hub.server.server_close()
    hub.thread.join()


MODEL = ModelConfig(id="org/name")


def test_a_model_is_downloaded_without_its_pickles(hub: Hub, tmp_path: Path) -> None:
    seen: list[LoadProgress] = []
    assert not is_cached(MODEL)
    folder = resolve(MODEL, seen.append)
    assert folder.is_relative_to(tmp_path / "hf" / "hub")
    names = {"config.json", "tokenizer.json", "model.safetensors"}
    assert {file.name for file in folder.iterdir()} == names
    assert set(hub.fetched) == names
    assert seen[0] == LoadProgress("download", None)
    assert seen[-1] == LoadProgress("download", 1.0)
    assert is_cached(MODEL)


def test_the_parts_of_an_embedding_model_come_too_and_no_other_folder(
    hub: Hub, tmp_path: Path
) -> None:
    parts = {
        "modules.json": json.dumps(
            [
                {"path": "", "type": "sentence_transformers.models.Transformer"},
                {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
                {"path": "2_Dense", "type": "sentence_transformers.models.Dense"},
            ]
        ).encode(),
        "1_Pooling/config.json": b"{}",
        "2_Dense/config.json": b"{}",
        # Of its own: files that are equal are one in the hub's cache, by either name.
        "2_Dense/model.safetensors": save({"linear.bias": np.zeros(4)}),
    }
    others = {
        "2_Dense/pytorch_model.bin": b"a pickle",
        "onnx/config.json": b"{}",
        "4bit/model.safetensors": hub.files["model.safetensors"],
        "onnx/1_Pooling/config.json": b"{}",
    }
    hub.files |= parts | others
    folder = resolve(MODEL)
    found = {str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file()}
    assert found == {"config.json", "tokenizer.json", "model.safetensors", *parts}
    (folder / "2_Dense" / "model.safetensors").resolve().write_bytes(b"damaged")
    hub.fetched.clear()
    assert resolve(MODEL) == folder
    assert hub.fetched == ["2_Dense/model.safetensors"]


def test_once_cached_no_network_is_needed(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = resolve(MODEL)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(subprocess_runner, "run", None)
    assert resolve(MODEL) == folder


def flip_a_bit(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("config.json", flip_a_bit),
        ("model.safetensors", lambda file: file.write_bytes(file.read_bytes()[:-1])),
        ("model.safetensors", flip_a_bit),
        ("tokenizer.json", lambda file: file.resolve().unlink()),
    ],
)
def test_a_damaged_file_is_fetched_again_and_no_other(
    hub: Hub, name: str, damage: Callable[[Path], object]
) -> None:
    folder = resolve(MODEL)
    damage(folder / name)
    hub.fetched.clear()
    assert resolve(MODEL) == folder
    assert hub.fetched == [name]
    assert (folder / name).read_bytes() == hub.files[name]


def test_a_bit_in_large_weights_is_found_when_asked_for(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llm_serve.models.fetch.hub._SMALL_BYTES", 1000)
    folder = resolve(MODEL)
    flip_a_bit(folder / "model.safetensors")
    hub.fetched.clear()
    resolve(MODEL)
    assert hub.fetched == []
    resolve(MODEL, thorough=True)
    assert hub.fetched == ["model.safetensors"]


@pytest.mark.parametrize(
    ("source", "gate", "words"),
    [
        ("hub:org/nowhere", None, "There is no model org/nowhere on the hub"),
        ("hub:org/name@v9", None, "no revision 'v9'"),
        ("hub:org/name", (403, "GatedRepo"), "set HF_TOKEN"),
        ("hub:org/name", (401, ""), "HF_TOKEN"),
        ("hub:--name", None, "is no hub id"),
    ],
)
def test_a_refusal_is_one_sentence(
    hub: Hub, tmp_path: Path, source: str, gate: tuple[int, str] | None, words: str
) -> None:
    hub.gate = gate
    with pytest.raises(LoadFailed) as caught:
        resolve(ModelConfig(id="m", source=source))
    assert words in caught.value.message
    assert str(tmp_path) not in caught.value.message
    assert "http" not in caught.value.message


def test_no_network(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(LoadFailed, match="The hub could not be reached"):
        resolve(MODEL)


def test_pickles_are_refused(hub: Hub) -> None:
    del hub.files["model.safetensors"]
    with pytest.raises(LoadFailed, match=r"has no \*\.safetensors"):
        resolve(MODEL)
    assert hub.fetched == []


def test_a_download_that_stands_still_is_given_up(
    hub: Hub, clock_from: Callable[[threading.Event], None]
) -> None:
    hub.hold = threading.Event()
    clock_from(hub.half_sent)
    with pytest.raises(LoadFailed, match="made no progress for 180 s"):
        resolve(MODEL)
    assert "model.safetensors" in hub.fetched


def test_no_room(hub: Hub) -> None:
    hub.claimed = 10**15
    with pytest.raises(LoadFailed, match="No room to download org/name: 1000000") as caught:
        resolve(MODEL)
    assert "HF_HOME" in caught.value.message
    assert hub.fetched == []
