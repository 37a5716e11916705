"""In every Ray worker of ours: imports what it is told to while the worker is idle.

Ray imports this module when a worker process starts (`preload_python_modules`). `deployments.warm`
then writes the names of modules into a file that carries the worker's pid. A worker that becomes
somebody's process, or whose file never comes, imports nothing.
"""

from __future__ import annotations

import importlib
import logging
import os
import threading
import time
from pathlib import Path

import psutil

FOLDER = "LLM_SERVE_WARM"
"""The environment variable with the folder of those files; unset: nothing happens."""
DONE = ".done"
_LOOK_S = 0.2
log = logging.getLogger("llm_serve.warm")


def is_idle(process: psutil.Process) -> bool:
    """Whether Ray has this worker in store: it says so in the title."""
    return "IDLE" in "".join(process.cmdline())


def _obey(order: Path) -> None:
    process = psutil.Process()
    time.sleep(_LOOK_S)  # the title is not there at once
    while is_idle(process):
        if order.exists():
            for module in order.read_text().split():
                importlib.import_module(module)
            order.rename(order.with_suffix(DONE))
            return
        time.sleep(_LOOK_S)


def _run(order: Path) -> None:
    try:
        _obey(order)
    except Exception:
        log.exception("this worker stays cold")


if folder := os.environ.get(FOLDER):
    threading.Thread(target=_run, args=(Path(folder) / f"{os.getpid()}",), daemon=True).start()
