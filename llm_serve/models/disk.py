"""Turns trouble with the disk into a sentence for the person."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llm_serve.errors import LoadFailed

_MARGIN = 64 * 2**20
"""Bytes left free beyond what is needed, so that the machine stays usable."""


def require_space(folder: Path, needed: int, what: str, variable: str = "LLM_SERVE_CACHE") -> None:
    """Raises LoadFailed where the disk of `folder` (or its nearest parent) lacks `needed` bytes.

    `what` ends the sentence "No room to ..."; `variable` is the setting that moves the folder.
    """
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed + _MARGIN:
        raise LoadFailed(
            f"No room to {what}: {_size(needed + _MARGIN)} are needed and {_size(free)} are free. "
            f"Free some disk space, or set {variable} to a folder on a larger disk."
        )


@contextmanager
def disk_errors() -> Iterator[None]:
    """Turns the OSErrors of a cache folder (full, read-only, forbidden) into LoadFailed."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason = "the disk is full; free some space, or set LLM_SERVE_CACHE to a larger disk"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR):
            reason = "it may not be written; set LLM_SERVE_CACHE to a folder that may"
        else:
            reason = f"{error.strerror or type(error).__name__}"
        raise LoadFailed(f"The model cache failed: {reason}.") from error


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 10**9 else f"{count / 1e6:.0f} MB"
