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

import importlib
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psutil

from deployments.inner import keep_inner_ports_local
from llm_serve.config import Config

log = logging.getLogger("llm_serve.warm")
_LOOK_S = 0.5
_SETTLE_S = 6.0
"""A worker that was just taken is busy loading; importing beside it would slow it."""
_POLL_S = 0.1
_ROOM = 2 * 2**30
"""Bytes that must be free on the machine: models come first."""


def wanted(config: Config) -> bool:
    """Whether a switch can happen that would gain: another model of an engine that imports long."""
    return (
        config.residency.warm_worker
        and len(config.models) > 1
        and any(model.backend == "transformers" for model in config.models)
    )


@contextmanager
def warm_workers(config: Config) -> Iterator[None]:
    """Keeps one warm worker on this machine until the end of the block, where that is wanted."""
    if not wanted(config):
        yield
        return
    keeper = _Keeper()
    try:
        yield
    finally:
        keeper.stop()


class _Keeper:
    """A thread that looks twice a second. It never raises, and ends within `_POLL_S` or so."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._pid: int | None = None
        self._thread = threading.Thread(target=self._run, name="warm-workers", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(timeout=2 * _POLL_S)

    def _run(self) -> None:
        try:
            self._keep()
        except Exception:
            if not self._stop.is_set():
                log.exception("no more warm workers: models load in fresh processes")

    def _keep(self) -> None:
        import ray

        if ray.cluster_resources().get("GPU", 0) > 0:
            return  # a worker that imported torch without a GPU may never see the one it is given
        task = ray.remote(num_cpus=0, max_retries=0)(_import_engine)
        settle_s = 0.0
        while not self._stop.wait(settle_s or _LOOK_S):
            settle_s = 0.0
            idle = _idle(self._pid)
            if idle is None:
                if self._pid is not None:
                    self._pid, settle_s = None, _SETTLE_S
                elif _has_room():
                    self._pid = self._result(task.remote())
            elif not _has_room():
                idle.terminate()

    def _result(self, reference: Any) -> int | None:
        """The answer of the task; None when it failed, or when we are to stop."""
        import ray

        while not self._stop.is_set():
            if ray.wait([reference], timeout=_POLL_S)[0]:
                try:
                    pid: int = ray.get(reference)
                except ray.exceptions.RayError as error:
                    log.warning("no warm worker: %s", type(error).__name__)
                    return None
                return pid
        return None


def _import_engine() -> int:
    """Runs in the worker: all that a replica of the transformers backend imports."""
    import os

    for module in (
        "ray.serve._private.replica",
        "deployments.model",
        "llm_serve.execution",
        "llm_serve.backends.transformers",
        "llm_serve.backends.continuous",
        "llm_serve.backends.checkpoint",
    ):
        importlib.import_module(module)
    keep_inner_ports_local()  # ran before there was a replica module to act on
    return os.getpid()


def _idle(pid: int | None) -> psutil.Process | None:
    """That worker, if it is still there and still nobody's: Ray writes it into its title."""
    if pid is not None:
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            if "IDLE" in "".join(process.cmdline()):
                return process
    return None


def _has_room() -> bool:
    return psutil.virtual_memory().available >= _ROOM
