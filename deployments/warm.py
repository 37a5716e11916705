"""Worker processes that have the engine imported before a model needs one.

Most of a switch to a small model is `import torch, transformers` in a fresh process. Ray gives the
next replica an idle worker process of the same cluster where there is one, so a task that imports
the engine and ends leaves a process behind in which the next load starts at once. It costs the
memory of the imports, and nothing else: no engine is made, nothing is put on an accelerator.

Ray reuses only workers of tasks that a driver sent, not of tasks sent by a detached actor (every
Serve replica is one; tried with Ray 2.60). So `llm-serve`, which is the driver and stays, does
this; under `serve run` and KubeRay loads take as long as a fresh process does.
"""

from __future__ import annotations

import logging
import threading
from contextlib import suppress

import psutil

from llm_serve.config import Config

log = logging.getLogger(__name__)
_LOOK_S = 0.5
_SETTLE_S = 1.0


def wanted(config: Config) -> bool:
    """Whether a switch can happen that would gain: another model of an engine that imports long."""
    return len(config.models) > 1 and any(m.backend == "transformers" for m in config.models)


class WarmWorkers:
    """Keeps one warm worker on this machine until `stop`."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="warm-workers", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        import ray

        task = ray.remote(num_cpus=0, max_retries=0)(_import_engine)
        pid: int | None = None
        while not self._stop.is_set():
            if not _idle(pid):
                # A worker that was just taken is busy loading; importing beside it would slow it.
                if self._stop.wait(_SETTLE_S if pid is None else 8 * _SETTLE_S):
                    return
                try:
                    pid = ray.get(task.remote())
                except ray.exceptions.RayError as error:
                    log.debug("no warm worker: %s", type(error).__name__)
                    pid = None
            self._stop.wait(_LOOK_S)


def _import_engine() -> int:
    import os

    import deployments.model
    import llm_serve.backends.transformers
    from llm_serve.backends import checkpoint, continuous

    del deployments, llm_serve, checkpoint, continuous
    return os.getpid()


def _idle(pid: int | None) -> bool:
    """Whether that worker is still there and still nobody's."""
    if pid is None:
        return False
    with suppress(psutil.Error):
        return "IDLE" in "".join(psutil.Process(pid).cmdline())
    return False
