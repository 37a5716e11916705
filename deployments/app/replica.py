"""One replica of one model: an engine behind the backend seam, and reports to the director."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import ray
from ray import serve

from deployments.app.messages import REPORT_PERIOD_S, ReplicaReport
from deployments.app.names import director_name
from deployments.cluster.cores import settle
from deployments.cluster.deaths import here, look
from deployments.cluster.nodes import my_bins
from llm_serve.backends import create
from llm_serve.config import ModelConfig
from llm_serve.errors import LoadFailed
from llm_serve.generation.execution import execute
from llm_serve.generation.request import GenerationRequest
from llm_serve.models.footprint import estimate
from llm_serve.progress import LoadProgress

log = logging.getLogger("ray.serve")

_RETRY_S = 0.2
_FETCHED = ("weights", "warmup")
"""Stages of a load that come after the download."""
_TOLD_S = 2.0
"""An engine that ended tells those who wait within this, or it never will."""
_PIECE = 1 << 20
"""Bytes of one message to the ingress at most: Ray's messages by value end at 4 MiB."""
STARTED = b""
"""The first message of every request: from here on it is work in flight, which no switch ends."""


class Replica:
    """Loads once the director says so, in the background: a failed load is a report and not a crash
    loop.

    Ray Serve gives up on the whole application when a constructor raises three times.
    """

    async def __init__(self, config: ModelConfig) -> None:  # type: ignore[misc]  # Ray awaits it
        self._backend = create(config)
        self._config = config
        self._sizing: asyncio.Task[None] | None = None
        self._max_running = config.max_running
        self._working = 0
        """Requests that the engine works on."""
        context = serve.get_replica_context()
        # For an engine's own processes that join Ray: this cluster, not one that they find.
        os.environ["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
        self._director: Any = None
        self._app = context.app_name
        self._report = ReplicaReport(
            model=config.id,
            actor=context.replica_id.to_full_id_str(),
            process=ray.get_runtime_context().get_actor_id(),
            bins=my_bins(),
            state="waiting",
        )
        self._node = here()
        self._permitted = asyncio.Event()
        self._changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._reporter = self._loop.create_task(self._keep_reporting())
        self._loading = self._loop.create_task(self._load())
        if config.max_replicas > 1:
            # Ray routes to a replica whose constructor has returned, so it would take requests from
            # those that are up. One that failed never returns: the director takes its grant back.
            await asyncio.shield(self._loading)
            if self._report.state == "failed":
                await asyncio.Event().wait()

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[bytes, None]:
        """STARTED, then the encoded messages of `llm_serve.generation.execution.execute`."""
        yield STARTED
        await asyncio.shield(self._loading)
        if self._report.state == "failed":
            raise LoadFailed(
                self._report.error or "The model could not be loaded.", retry_after_s=60
            )
        self._working += 1
        try:
            async with aclosing(execute(self._backend, request, self._max_running)) as messages:
                async for message in messages:
                    for start in range(0, len(message), _PIECE):
                        yield message[start : start + _PIECE]
        finally:
            self._working -= 1

    async def check_health(self) -> None:
        """Raises when the engine can no longer answer, or never could; Ray Serve then replaces this
        replica."""
        if self._report.state == "ready":
            try:
                await self._backend.check_health()
            except Exception:
                self._tell(replace(self._report, state="failed", error="its engine ended"))
                self._ending = self._loop.create_task(self._end_with_the_engine())
                raise
        if self._report.state == "failed":
            raise RuntimeError(self._report.error)

    async def _end_with_the_engine(self) -> None:
        """Those who still wait are told by the end of this process; Ray would drain it, which is to
        wait with them until the inference timeout."""
        await asyncio.sleep(_TOLD_S)
        if self._working:
            log.error("the engine ended and does not say so: ending %d requests", self._working)
            os._exit(1)

    async def _load(self) -> None:
        """Once this may take memory: until then another may still hold it (rule 1)."""
        await self._permitted.wait()
        began = time.monotonic()
        self._tell(replace(self._report, state="loading"))
        try:
            info = await self._backend.load(self._on_progress)
            # The engine stays as long as this process: no collection need look at it again, neither
            # between two tokens nor (half a second, twice) when the engine is stopped for a switch.
            gc.freeze()
            took = time.monotonic() - began
            self._tell(replace(self._report, state="ready", progress=None, info=info, load_s=took))
        except LoadFailed as error:
            cause = error.__cause__
            log.warning(
                "%s could not be loaded: %s", self._report.model, error.detail, exc_info=cause
            )
            self._tell(replace(self._report, state="failed", progress=None, error=error.message))
        except Exception:
            log.exception("%s could not be loaded", self._report.model)
            reason = "The load failed in an unexpected way; the replica's log has it."
            self._tell(replace(self._report, state="failed", progress=None, error=reason))
        else:  # no load fails by it, and no request waits for it
            self._settling = self._loop.run_in_executor(None, settle)

    def _on_progress(self, progress: LoadProgress) -> None:
        """Called from any thread."""
        self._loop.call_soon_threadsafe(self._progressed, progress)

    def _progressed(self, progress: LoadProgress) -> None:
        if self._report.state == "loading":
            if self._sizing is None and progress.stage in _FETCHED:
                self._sizing = self._loop.create_task(self._size())
            if progress.fraction is not None:
                progress = replace(progress, fraction=round(progress.fraction, 2))
            self._tell(replace(self._report, progress=progress))

    async def _size(self) -> None:
        """The files are there, so what the model will take can be told before it takes it."""
        size = await asyncio.to_thread(estimate, self._config, here=True)
        if self._report.state == "loading":
            self._tell(replace(self._report, estimate=size))

    def _tell(self, report: ReplicaReport) -> None:
        if report != self._report:
            self._report = report
            self._changed.set()

    async def _keep_reporting(self) -> None:
        while True:
            self._changed.clear()
            try:
                if self._director is None:
                    name = director_name(self._app)
                    self._director = ray.get_actor(name, namespace="serve")
                told = self._report
                memory = look(self._node)
                report = self._director.report.remote(replace(told, memory=memory))
                if await report and told.state == "waiting":
                    self._permitted.set()
                    await asyncio.sleep(0)
                if told.state == "waiting":
                    continue  # the answer took its time
            except (ValueError, ray.exceptions.RayError) as error:
                # It is being restarted; the next one is told all.
                log.warning("the director did not take a report: %s", type(error).__name__)
                self._director = None
            period = REPORT_PERIOD_S if self._director is not None else _RETRY_S
            try:
                await asyncio.wait_for(self._changed.wait(), period)
            except TimeoutError:
                continue

    async def __del__(self) -> None:
        """Ray Serve awaits this at the end of a graceful shutdown."""
        self._reporter.cancel()
        self._loading.cancel()
        await self._backend.close()
