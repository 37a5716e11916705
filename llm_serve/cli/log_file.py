"""Where the details go that would bury the sentence on the terminal."""

from __future__ import annotations

import logging
from pathlib import Path

from llm_serve.models import cache_root


def log_to_file() -> Path:
    """Sends our log to a file, which exists once there is something in it."""
    file = cache_root() / "llm-serve.log"
    log = logging.getLogger("llm_serve")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        log.addHandler(logging.FileHandler(file, delay=True, encoding="utf-8"))
    except OSError:
        log.addHandler(logging.NullHandler())
    return file
