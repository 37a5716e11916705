"""Which models are in memory: the processes themselves, looked at all the time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import psutil

from deployments.app.names import model_of
from deployments.schema import APPLICATION
from tests.support.client import KEPT, Api
from tests.support.cluster import Cluster

_EVERY_S = 0.04


def replica_of(title: str, app: str) -> str | None:
    """The model of a replica process, from its title: Ray writes it in two ways."""
    for prefix, end in (
        (f"ray::ServeReplica:{app}:Model.", "."),
        (f"ray::SERVE_REPLICA::{app}#Model.", "#"),
    ):
        if title.startswith(prefix):
            # A method follows the deployment after a dot while it runs; ids in tests have none.
            return model_of("Model." + title.removeprefix(prefix).split(end)[0])
    return None


class Residents:
    """Samples the replica processes of one application from the start of the block to its end.

    `history` has what was resident, whenever that changed; `started` has the processes of each
    model in the order in which they appeared.
    """

    def __init__(self, child: int, app: str) -> None:
        self._child = child
        self._app = app
        self._ours: dict[int, bool] = {}
        self._models: dict[int, str] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.history: list[dict[int, str]] = []
        self.started: dict[str, list[int]] = {}

    def now(self) -> dict[int, str]:
        """Model by process."""
        found = {}
        for pid in psutil.pids():
            if not self._is_ours(pid):
                continue
            try:
                raw = Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:
                continue
            title = raw.split(b"\0")[0].decode(errors="replace").strip()
            model = replica_of(title, self._app) or self._models.get(pid)
            # A replica stays one until its process has ended: while it runs one of Ray's methods,
            # such as its own shutdown, its title is another.
            if title and model is not None:
                found[pid] = self._models[pid] = model
        return found

    def most(self) -> int:
        """The largest number of models that were in memory at the same moment."""
        return max((len(set(seen.values())) for seen in self.history), default=0)

    def overlaps(self) -> list[dict[int, str]]:
        """The moments at which more than one model was in memory."""
        return [seen for seen in self.history if len(set(seen.values())) > 1]

    def loads(self, model: str) -> int:
        """How many processes of the model were started, the one that was there before included."""
        return len(self.started.get(model, []))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    @classmethod
    @contextmanager
    def alone(cls, cluster: Cluster, *, timeout_s: float) -> Iterator[Api]:
        """The application at `/`; there is never more than one of its models in memory (rule 1)."""
        with (
            httpx.Client(base_url=cluster.url, timeout=timeout_s, limits=KEPT) as client,
            cls(cluster.child.pid, APPLICATION) as watch,
        ):
            yield Api(client)
        assert watch.most() <= 1, watch.overlaps()

    def _run(self) -> None:
        while True:
            seen = self.now()
            if not self.history or seen != self.history[-1]:
                self.history.append(seen)
            for pid, model in seen.items():
                known = self.started.setdefault(model, [])
                if pid not in known:
                    known.append(pid)
            if self._stop.wait(_EVERY_S):
                return

    def _is_ours(self, pid: int) -> bool:
        """Whether it belongs to this cluster: other sessions run theirs on this machine."""
        if pid not in self._ours:
            try:
                parents = psutil.Process(pid).parents()
            except psutil.Error:
                return False
            self._ours[pid] = any(parent.pid == self._child for parent in parents)
        return self._ours[pid]
