"""Our cache of converted models: one folder per source, whole or not there.

1. An entry is `<cache>/models/<name>-<hash>`; the hash covers source, checksum and FORMAT.
2. It is built in a sibling `<entry>.work-*`, every file is flushed to disk and listed with size and
   XXH3-128 in a manifest, and one rename makes it visible. Whoever sees the entry sees all of it.
3. Only the holder of `<entry>.lock` builds. The kernel frees the lock of a killed process, and the
   next holder sweeps away the work folders that it left.
4. Every use hashes every file in full, so a single flipped bit is found at once and rebuilt, and no
   rule about timestamps is needed. XXH3 finds damage, not malice: who may write here may write the
   manifest as well; what comes from outside is checked by sha256 before it is converted. 269 MB in
   the page cache take 14 ms (sha256: 150 ms alone, 440 ms in the middle of a switch).
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock
import platformdirs
import xxhash

from llm_serve.models.sources import Wheel
from llm_serve.progress import LoadProgress, OnProgress

log = logging.getLogger(__name__)

FORMAT = 2
"""Of what a conversion writes; a higher one makes every old entry another entry."""
MANIFEST = "llm-serve.json"
BUILT = "model"
"""The folder inside the work folder that becomes the entry."""
_WAIT_S = 0.5


def cache_root() -> Path:
    """LLM_SERVE_CACHE, else the user's cache folder for llm-serve. It need not exist."""
    chosen = os.environ.get("LLM_SERVE_CACHE")
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("llm-serve")


def entry_folder(wheel: Wheel) -> Path:
    """Where the converted model of this source is or will be."""
    key = json.dumps([FORMAT, wheel.dist, wheel.version, wheel.member, wheel.sha256])
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    slug = re.sub(r"[^A-Za-z0-9.-]+", "-", Path(wheel.member).stem)[:60]
    return cache_root().absolute() / "models" / f"{slug}-{digest}"


def is_present(entry: Path) -> bool:
    """True where the entry has every file with its size; contents are not read."""
    return _agrees(entry, hashed=False)


def is_intact(entry: Path) -> bool:
    """True where every file of the entry has the recorded size and hash."""
    return _agrees(entry, hashed=True)


def get_or_build(entry: Path, build: Callable[[Path], None], report: OnProgress) -> Path:
    """Returns the intact entry; builds it first where it is missing or damaged.

    `build(work)` fills `work / BUILT`; other files in `work` are thrown away. What it raises is
    raised here, and leaves no entry. A second process waits for the first and reports an unknown
    fraction meanwhile.
    """
    if is_intact(entry):
        return entry
    entry.parent.mkdir(parents=True, exist_ok=True)
    with _locked(entry, report):
        if is_intact(entry):
            return entry
        if entry.exists():
            log.warning("The cached model %s is damaged; it is built anew.", entry.name)
            entry.rename(entry.with_name(f"{entry.name}.work-damaged"))
        for leftover in _work_folders(entry):
            shutil.rmtree(leftover)
        work = Path(tempfile.mkdtemp(prefix=f"{entry.name}.work-", dir=entry.parent))
        try:
            build(work)
            _seal(work / BUILT)
            (work / BUILT).rename(entry)
            _flush(entry.parent)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return entry


def sha256_of(file: Path) -> str:
    """What a publisher states of a file from outside."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _xxh3_of(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, xxhash.xxh3_128).hexdigest()


@contextmanager
def _locked(entry: Path, report: OnProgress) -> Iterator[None]:
    lock = filelock.FileLock(entry.with_name(f"{entry.name}.lock"))
    while True:
        try:
            lock.acquire(timeout=_WAIT_S)
            break
        except filelock.Timeout:
            converting = any((work / BUILT).exists() for work in _work_folders(entry))
            report(LoadProgress("convert" if converting else "download"))
    try:
        yield
    finally:
        lock.release()


def _work_folders(entry: Path) -> list[Path]:
    return list(entry.parent.glob(f"{entry.name}.work-*"))


def _seal(folder: Path) -> None:
    """Writes the manifest and puts every file on disk, readable for whoever may use the cache."""
    files = sorted(file for file in folder.iterdir() if file.is_file())
    for file in files:
        file.chmod(0o644)
        _flush(file)
    listed = {file.name: [file.stat().st_size, _xxh3_of(file)] for file in files}
    manifest = folder / MANIFEST
    manifest.write_text(json.dumps({"format": FORMAT, "files": listed}, indent=1))
    _flush(manifest)
    folder.chmod(0o755)
    _flush(folder)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _agrees(entry: Path, *, hashed: bool) -> bool:
    try:
        listed = json.loads((entry / MANIFEST).read_bytes())["files"]
        for name, (size, digest) in listed.items():
            file = entry / name
            if file.stat().st_size != size or (hashed and _xxh3_of(file) != digest):
                return False
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    return bool(listed)
