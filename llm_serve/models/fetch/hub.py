"""A model from the Hugging Face hub, in the hub's own cache (HF_HOME), by its own client.

What is in the cache and whole is used without asking the network, so that a switch costs no round
trip and a server without network works; a new commit on the hub is therefore not noticed (name a
revision, `hub:org/name@revision`, to move on). Each use compares files below 32 MiB with the hash
that the cache names them by, and the shape of the weights with their size; hashing all weights
takes seconds per model and is left to `thorough`, that is `llm-serve pull`. A damaged file is
thrown away and fetched again.
"""

from __future__ import annotations

import hashlib
import re
from collections import deque
from pathlib import Path

from llm_serve.errors import LoadFailed
from llm_serve.models.cache import sha256_of
from llm_serve.models.fetch import subprocess_runner
from llm_serve.models.fetch.hub_download import ALLOW, IGNORE
from llm_serve.models.model_folder import BadFolder, check_folder, cut_off
from llm_serve.models.sources import Hub
from llm_serve.progress import LoadProgress, OnProgress

_SMALL_BYTES = 32 * 2**20
_MISSING = (
    "Models from the hub need the huggingface_hub package: run `pip install huggingface-hub`."
)


def find(hub: Hub) -> Path | None:
    """The snapshot folder where the hub's cache has all of it, else None. Asks no network."""
    folder = _snapshot(hub)
    if folder is None:
        return None
    try:
        check_folder(folder)
    except BadFolder:
        return None
    return folder


def fetch(hub: Hub, report: OnProgress, *, thorough: bool = False) -> Path:
    """The snapshot folder, downloaded where it is not whole; LoadFailed with a sentence."""
    broken = _snapshot(hub)
    if broken is not None:
        _discard_damaged(broken, thorough=thorough)
    folder = find(hub)
    if folder is not None:
        return folder
    report(LoadProgress("download"))
    cache = _cache_folder()
    blobs = cache / f"models--{hub.repo.replace('/', '--')}" / "blobs"
    before = _written(blobs)

    def tick(lines: deque[str]) -> object:
        written, needed = _written(blobs), subprocess_runner.number(lines, "needed")
        if needed:
            report(LoadProgress("download", min((written - before) / needed, 1.0)))
        return written, len(lines)

    arguments = (hub.repo, hub.revision or "", str(cache))
    environment = {"HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    done = subprocess_runner.run(
        "llm_serve.models.fetch.hub_download",
        *arguments,
        tick=tick,
        stall_s=subprocess_runner.STALL_S,
        env=environment,
    )
    if done.stalled:
        raise LoadFailed(
            f"The download of {hub.repo} made no progress for {subprocess_runner.STALL_S:.0f} s "
            "and was given up. Check the network, then try again; what was fetched is kept."
        )
    if done.status != 0:
        raise LoadFailed(
            done.failure or f"{hub.repo} could not be downloaded; the log has the reason."
        )
    report(LoadProgress("download", 1.0))
    folder = _snapshot(hub)
    try:
        check_folder(folder or Path())
    except BadFolder as error:
        raise LoadFailed(f"The model {hub.repo} on the hub {error}.") from None
    assert folder is not None
    return folder


def _cache_folder() -> Path:
    try:
        from huggingface_hub import constants
    except ImportError:
        raise LoadFailed(_MISSING) from None
    return Path(constants.HF_HUB_CACHE)


def _snapshot(hub: Hub) -> Path | None:
    cache = _cache_folder()
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(
                hub.repo,
                revision=hub.revision,
                cache_dir=cache,
                local_files_only=True,
                allow_patterns=list(ALLOW),
                ignore_patterns=list(IGNORE),
            )
        )
    except HFValidationError:
        raise LoadFailed(f"{hub.repo!r} is no hub id: write org/name.") from None
    except LocalEntryNotFoundError:
        return None


def _written(blobs: Path) -> int:
    """Bytes in the hub's cache of this model, the files that are still incomplete counted."""
    total = 0
    for file in blobs.glob("*"):
        try:
            total += file.stat().st_size
        except OSError:
            continue
    return total


def _discard_damaged(snapshot: Path, *, thorough: bool) -> None:
    for link in snapshot.rglob("*"):
        blob = link.resolve()
        if link.is_file() and not _is_whole(link, blob, thorough=thorough):
            blob.unlink()
            link.unlink(missing_ok=True)


def _is_whole(link: Path, blob: Path, *, thorough: bool) -> bool:
    """Compares with the blob's name: sha256 of what is in LFS, git's sha1 of what is not."""
    if link.name.endswith(".safetensors") and cut_off(link):
        return False
    if blob.stat().st_size > _SMALL_BYTES and not thorough:
        return True
    if re.fullmatch(r"[0-9a-f]{64}", blob.name):
        return sha256_of(blob) == blob.name
    if re.fullmatch(r"[0-9a-f]{40}", blob.name):
        data = blob.read_bytes()
        return (
            hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
            == blob.name
        )
    return True
