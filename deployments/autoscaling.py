"""The application autoscaling policy: Ray's replica targets are what the director granted.

It runs inside the Serve controller, every tick (0.1 s), for all models at once. It must never
block, raise or call `serve.*`: it sends one question to the director and reads the answer on a
later tick. Without an answer every target stays as it is.
"""

from __future__ import annotations

import logging
import math
from typing import Any

import ray
from ray.serve.config import AutoscalingContext

from deployments.names import director_name, model_of

log = logging.getLogger("ray.serve")
_LOST_AFTER_TICKS = 50

Grants = dict[str, tuple[int, int]]
"""Model id to (replicas granted, generation of that grant)."""


class ResidencyPolicy:
    """Within a grant, the number of requests decides between 1 and the granted replicas."""

    def __init__(self) -> None:
        self._director: Any = None
        self._question: Any = None
        self._asked_ticks = 0
        self._applied: dict[str, int] = {}

    def __call__(
        self, contexts: dict[Any, AutoscalingContext]
    ) -> tuple[dict[Any, int], dict[Any, dict[str, Any]]]:
        grants: Grants = {}
        try:
            grants = self._answer() or {}
            self._ask(next(iter(contexts.values())).app_name or "")
        except Exception as error:
            if self._director is not None:  # else it is not there yet: the ingress makes it
                log.warning("the director could not be asked: %s", type(error).__name__)
            self._director = self._question = None
        targets = {}
        for deployment, context in contexts.items():
            model = model_of(deployment.name)
            if model in grants:
                replicas, generation = grants[model]
                target = _within(replicas, context)
                # Ray raises what is returned to 1 where it believes that a request is queued, and
                # its figures are late; what is left out keeps its target.
                if target != context.target_num_replicas:
                    targets[deployment] = target
                self._applied[model] = generation
        return targets, {}

    def _ask(self, app: str) -> None:
        if self._question is not None:
            return
        if self._director is None:
            self._director = ray.get_actor(director_name(app), namespace="serve")
        self._question = self._director.grants.remote(dict(self._applied))
        self._asked_ticks = 0

    def _answer(self) -> Grants | None:
        """The director's answer if it is there; forgets a director that does not answer."""
        if self._question is None:
            return None
        done, _ = ray.wait([self._question], timeout=0)
        if not done:
            self._asked_ticks += 1
            if self._asked_ticks > _LOST_AFTER_TICKS:
                self._director = self._question = None
            return None
        question, self._question = self._question, None
        answer: Grants = ray.get(question)
        return answer


def _within(granted: int, context: AutoscalingContext) -> int:
    """Ray's own rule, requests over target_ongoing_requests, inside the grant."""
    if granted <= 1:
        return granted
    per_replica: float = context.config.get_target_ongoing_requests()
    wanted = math.ceil(context.total_num_requests / per_replica)
    return int(max(1, min(granted, wanted)))
