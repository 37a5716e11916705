"""The application autoscaling policy: Ray's replica targets are what the director granted.

It runs inside the Serve controller, every tick, for all models at once. It must never block, raise
or call `serve.*`: it sends one question to the director, who answers when there is news, and reads
the answer on a later tick. Without an answer every target stays as it is.

It also sets the controller's pace. A switch waits for six or so ticks, so they are short while one
is under way in any application; while nothing moves, most of what the controller and its questions
cost is taken from the engines (measured on 2 cores: 10 % of the tokens/s of one stream).
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from typing import Any
from weakref import WeakSet

import ray
from ray.serve.config import AutoscalingContext

from deployments.app.messages import Granted
from deployments.app.names import director_name, model_of
from deployments.ray_patches.loop_pace import TICK_S, set_pace

log = logging.getLogger("ray.serve")
_LOST_AFTER_S = 5.0
"""Above `deployments.app.director.GRANTS_S`, after which every question has its answer."""
_STILL_TICK_S = max(TICK_S, 0.25)
HOLD_S = 30.0
"""A replica that was wanted stays for so long: what it costs to load is not spent on a pause
between two bursts."""

_NOTHING = Granted({}, True)
"""Before the first answer, and once the director is lost: every target stays as it is."""


class ResidencyPolicy:
    """Within a grant, the number of requests decides between 1 and the granted replicas."""

    def __init__(self) -> None:
        self._director: Any = None
        self._question: Any = None
        self._asked = 0.0
        self._applied: dict[str, int] = {}
        self._granted = _NOTHING
        self._held = Held()

    def __call__(
        self, contexts: dict[Any, AutoscalingContext]
    ) -> tuple[dict[Any, int], dict[Any, dict[str, Any]]]:
        targets = self._targets(contexts)
        try:
            # After the targets: the director learns which of them are in force.
            self._ask(next(iter(contexts.values())).app_name or "")
        except Exception as error:
            self._forget(error)
        self._set_pace()
        return targets, {}

    def _targets(self, contexts: dict[Any, AutoscalingContext]) -> dict[Any, int]:
        try:
            self._hear()
        except Exception as error:
            self._forget(error)
        targets = {}
        for deployment, context in contexts.items():
            model = model_of(deployment.name)
            if model in self._granted.grants:
                replicas, generation = self._granted.grants[model]
                target = self._held.within(model, replicas, context, time.monotonic())
                # Ray raises what is returned to 1 where it believes that a request is queued, and
                # its figures are late; what is left out keeps its target.
                if target != context.target_num_replicas:
                    targets[deployment] = target
                self._applied[model] = generation
        return targets

    def _ask(self, app: str) -> None:
        if self._question is not None:
            return
        if self._director is None:
            self._director = ray.get_actor(director_name(app), namespace="serve")
        self._question = self._director.grants.remote(dict(self._applied), self._granted.moving)
        self._asked = time.monotonic()

    def _hear(self) -> None:
        """Takes the director's answer if it is there; forgets a director that does not answer."""
        if self._question is None:
            return
        done, _ = ray.wait([self._question], timeout=0)
        if done:
            question, self._question = self._question, None
            self._granted = ray.get(question)
        elif time.monotonic() - self._asked > _LOST_AFTER_S:
            self._forget(TimeoutError())

    def _forget(self, error: Exception) -> None:
        if self._director is not None:  # else it is not there yet: the ingress makes it
            log.warning("the director could not be asked: %s", type(error).__name__)
        self._director = self._question = None
        self._granted = _NOTHING

    def _set_pace(self) -> None:
        (_moving.add if self._granted.moving else _moving.discard)(self)
        set_pace(TICK_S if _moving else _STILL_TICK_S)


_moving: WeakSet[ResidencyPolicy] = WeakSet()
"""The policies of this process in whose application something moves; they share one loop."""


class Held:
    """How many replicas the requests ask for: at once when it is more, and no less than what they
    asked for in the last HOLD_S."""

    def __init__(self) -> None:
        self._wanted: dict[str, deque[tuple[float, int]]] = {}
        """Of every model, newest last: when so many were wanted. Counts fall from the left."""

    def within(self, model: str, granted: int, context: AutoscalingContext, now: float) -> int:
        """Ray's own rule, requests over target_ongoing_requests, inside the grant."""
        per_replica: float = context.config.get_target_ongoing_requests()
        wanted = max(1, math.ceil(context.total_num_requests / per_replica))
        recent = self._wanted.setdefault(model, deque())
        while recent and recent[-1][1] <= wanted:
            recent.pop()
        recent.append((now, wanted))
        while recent[0][0] < now - HOLD_S:
            recent.popleft()
        return min(granted, recent[0][1])  # 0 where nothing is granted
