"""A worker process that has the engine imported before a model needs one.

Most of a switch to a small model is `import torch, transformers` in a fresh process. Ray gives the
next replica an idle worker process where it has one in store, the newest first. So we ask Ray for
one more, which imports an engine before it takes work (`llm_serve.host.worker_imports`): the next
load starts at once. It costs the memory of the imports, and nothing else: no engine is made,
nothing is put on an accelerator.

A worker that has run a task will not do, Ray keeps those for tasks (tried with Ray 2.60); and a
worker that imported torch without a GPU may never see the one that its replica is given, so where
there are GPUs, loads take as long as a fresh process does.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from deployments.ray_patches.grpc_port import REPLICA_MODULE
from deployments.ray_patches.prestart import Raylet
from llm_serve.config import Config
from llm_serve.host.worker_imports import DONE, FOLDER, ORDER

log = logging.getLogger("llm_serve.warm")
_LOOK_S = 0.5
_SETTLE_S = 5.0
"""How long nothing is done after a worker was taken: it loads, and importing beside it would slow
it."""
_PATIENCE_S = 30.0
"""How long a worker may take to come up and to import; a machine that takes longer has other
worries."""
_KEPT_S = 10**8
"""How long Ray may not end the worker for being idle."""
_ROOM = 2 * 2**30
"""Bytes that must be free on the machine: models come first."""
_MODULES = (
    REPLICA_MODULE,
    "deployments.app.replica",
    "llm_serve.generation.execution",
    "llm_serve.backends.transformers.backend",
    "llm_serve.backends.transformers.checkpoint",
    "llm_serve.backends.transformers.engine",
    "llm_serve.models",
    "transformers.models.llama.modeling_llama",  # brings what the other architectures share
)


def environment(config: Config, folder: Path) -> Mapping[str, str]:
    """The variables that Ray must start with. `folder` is this start's own."""
    if not _gains(config):
        return {}
    orders = _orders(folder)
    orders.mkdir(mode=0o700, exist_ok=True)  # it is there when Ray is started anew
    return {"RAY_preload_python_modules": "llm_serve.host.worker_imports", FOLDER: str(orders)}


@contextmanager
def warm_worker(config: Config, folder: Path) -> Iterator[None]:
    """Keeps one warm worker on this machine until the end of the block, where that gains anything.
    Ray runs in the environment that `environment` gave for the same configuration and folder."""
    if not _gains(config):
        yield
        return
    keeper = _Keeper(_orders(folder))
    try:
        yield
    finally:
        keeper.stop()


def _gains(config: Config) -> bool:
    """Whether a switch can happen that would gain: another model of an engine that imports long."""
    return (
        config.residency.warm_worker
        and len(config.models) > 1
        and any(model.backend == "transformers" for model in config.models)
    )


def _orders(folder: Path) -> Path:
    """The folder in which a worker finds what it is to import."""
    return folder / "warm"


class _Keeper:
    """A thread that looks twice a second. It never raises, and nobody waits for it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stop = threading.Event()
        threading.Thread(target=self._run, name="warm-worker", daemon=True).start()

    def stop(self) -> None:
        self._stop.set()

    def _run(self) -> None:
        try:
            self._keep()
        except Exception:
            if not self._stop.is_set():
                log.exception("no more warm workers: models load in fresh processes")

    def _keep(self) -> None:
        import ray

        if ray.cluster_resources().get("GPU", 0) > 0:
            return
        raylet = Raylet(keep_s=_KEPT_S)
        worker: psutil.Process | None = None
        while not self._stop.wait(_LOOK_S):
            if worker is not None and not _still_idle(worker):
                worker = None
                self._stop.wait(_SETTLE_S)
            elif worker is None and _has_room():
                worker = self._prepare(raylet)
            elif worker is not None and not _has_room():
                worker.terminate()

    def _prepare(self, raylet: Raylet) -> psutil.Process | None:
        """A worker that has imported everything; None when that took too long."""
        new = self._folder / "new"
        new.write_text("\n".join(_MODULES))
        new.rename(self._folder / ORDER)
        raylet.start_worker()
        deadline = time.monotonic() + _PATIENCE_S
        worker: psutil.Process | None = None
        while worker is None and time.monotonic() < deadline and not self._stop.wait(_LOOK_S):
            for done in self._folder.glob(f"*{DONE}"):
                with suppress(psutil.NoSuchProcess):
                    worker = psutil.Process(int(done.stem))
        for left in self._folder.iterdir():
            left.unlink(missing_ok=True)
        return worker


def _still_idle(worker: psutil.Process) -> bool:
    """Whether Ray has the worker in store: it says so in the title."""
    try:
        return worker.is_running() and "IDLE" in "".join(worker.cmdline())
    except psutil.Error:
        return False


def _has_room() -> bool:
    return psutil.virtual_memory().available >= _ROOM
