"""Which replicas there are, of models and of the ingress: Ray's own list of living actors."""

from __future__ import annotations

import asyncio
import time

from ray.util import list_named_actors

from deployments.app.names import ingress_replica, replica_model

_IN_MOTION_S = 0.1
_AT_REST_S = 1.0


class ReplicaCensus:
    """Asks the cluster, more often while a model loads or leaves.

    An actor is on the list from the moment it is asked for until its process has ended, also while
    it starts, drains, or was killed from outside; nothing else tells all of these.
    """

    def __init__(self, app: str) -> None:
        self._app = app
        self._last = 0.0
        self.seen: set[str] = set()
        self.ingresses: set[str] = set()

    def hurry(self) -> None:
        """The next look is due at once."""
        self._last = 0.0

    def due(self, in_motion: bool) -> bool:
        period = _IN_MOTION_S if in_motion else _AT_REST_S
        return time.monotonic() - self._last >= period

    async def replicas(self) -> dict[str, list[str]]:
        """The actors of every model's replicas, by model."""
        self._last = time.monotonic()
        actors = await asyncio.to_thread(list_named_actors, all_namespaces=True)
        found: dict[str, list[str]] = {}
        self.seen, self.ingresses = set(), set()
        for actor in actors:
            ingress = ingress_replica(actor["name"], self._app)
            if ingress is not None:
                self.ingresses.add(ingress)
            model = replica_model(actor["name"], self._app)
            if model is not None:
                found.setdefault(model, []).append(actor["name"])
                self.seen.add(actor["name"])
        return found
