"""In every Ray worker of ours: imports an engine before the worker takes work, if it is told to.

Ray imports this module in the main thread of a worker process that starts, and only then lets the
worker take work (`preload_python_modules`). A worker that finds the order of
`deployments.machine.warm_worker` takes it and imports what it names. No thread does: where two
threads import one package, each may find the other's half-imported modules, and a Serve controller
that started in such a worker failed for ever.
"""

from __future__ import annotations

import importlib
import logging
import os
from contextlib import suppress
from pathlib import Path

FOLDER = "LLM_SERVE_WARM"
"""The environment variable with the folder of the order; unset: nothing happens."""
ORDER = "order"
"""The file with the names of modules; who takes it renames it to its process id."""
DONE = ".done"
"""The suffix of that file once all is imported."""
log = logging.getLogger("llm_serve.warm")


def obey(folder: Path) -> None:
    """Takes the order if there is one. Never raises: a worker that stays cold works as well."""
    mine = folder / f"{os.getpid()}"
    try:
        (folder / ORDER).rename(mine)
    except OSError:  # another worker has it, or there is none
        return
    try:
        for module in mine.read_text().split():
            importlib.import_module(module)
    except Exception:
        log.exception("this worker stays cold")
        mine.unlink(missing_ok=True)
    with suppress(FileNotFoundError):  # nobody waits for it any more
        mine.rename(mine.with_suffix(DONE))


if chosen := os.environ.get(FOLDER):
    obey(Path(chosen))
