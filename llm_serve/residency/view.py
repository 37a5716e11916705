"""What clients and ingresses get to see of the state. Reads only."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache

from llm_serve.progress import ModelInfo
from llm_serve.residency.plan.policy import Knobs
from llm_serve.residency.state import Model, Phase
from llm_serve.status import Loading, ModelState, ModelStatus, ServerState, ServerStatus


def state_of(model: Model, now: float) -> ModelState:
    if model.phase is Phase.LOADING:
        return "loading"
    if model.phase is Phase.READY:
        return "ready"
    if model.last_error is not None:
        return "failed"
    if model.leaving:
        return "draining"
    return "queued" if model.demand(now) else "unloaded"


def eta_s(model: Model, now: float) -> float | None:
    """Seconds until it is ready, from measured loads only; None where one is missing.

    A load takes what it took before; one in the queue waits for room first (`forecast`).
    """
    if model.load_s is None:
        return None
    if model.phase is Phase.LOADING:
        left = model.load_s - (now - model.phase_at)
        return left if left > 0 else None
    left = max(model.room_at - now, 0.0) + model.load_s
    return left if math.isfinite(left) else None


def current_model(models: Iterable[Model]) -> str | None:
    """The ready model that came up last."""
    ready = [m for m in models if m.phase is Phase.READY]
    return max(ready, key=lambda m: (m.ready_at, m.generation)).spec.model if ready else None


def loading(
    model: Model, models: Iterable[Model], queue: list[Model], now: float, knobs: Knobs
) -> Loading:
    """What to tell a client that waits for `model`; `queue` is the line, the next one first."""
    status = model_status(model, queue, now)
    eta = status.eta_s
    retry_after = 2.0 if eta is None else min(max(eta, 1.0), knobs.max_retry_after_s)
    return Loading(status, current_model(models), max(1, math.ceil(retry_after)))


def position(model: Model, queue: list[Model]) -> int | None:
    if model.phase is Phase.LOADING:
        return 0
    return queue.index(model) + 1 if model in queue else None


@lru_cache(maxsize=4096)
def _plain(
    model: str, state: ModelState, replicas: int, pinned: bool, info: ModelInfo | None
) -> ModelStatus:
    return ModelStatus(model, state, replicas, pinned=pinned, info=info)


def model_status(model: Model, queue: list[Model], now: float) -> ModelStatus:
    if model.last_error is None and not model.queued_for_load(now):
        if model.phase is Phase.UNLOADED and not model.demand(now):
            return _plain(model.spec.model, "unloaded", 0, model.pinned, model.info)
        if model.phase is Phase.READY:
            return _plain(model.spec.model, "ready", model.up, model.pinned, model.info)
    waits = model in queue or model.phase is Phase.LOADING
    return ModelStatus(
        id=model.spec.model,
        state=state_of(model, now),
        replicas=model.up,
        position=position(model, queue),
        stage=model.stage,
        progress=model.fraction,
        error=model.last_error,
        pinned=model.pinned,
        info=model.info,
        eta_s=eta_s(model, now) if waits else None,
        cooldown_s=max(0.0, model.cooldown_until - now),
    )


def server_state(
    models: Sequence[Model], starting: bool, stopping: bool, switching: bool, now: float
) -> ServerState:
    """Degraded: a model cools down after a failure, or one that should be up is not (rule 6)."""
    if stopping:
        return "draining"
    if starting:
        return "starting"
    if any(
        m.cooldown_until > now or (m.last_error and m.pinned and m.phase is not Phase.READY)
        for m in models
    ):
        return "degraded"
    return "switching" if switching else "ok"


def snapshot(
    version: int,
    models: Sequence[Model],
    queue: list[Model],
    starting: bool,
    stopping: bool,
    now: float,
) -> ServerStatus:
    """The picture for every ingress."""
    loading = [m for m in models if m.phase is Phase.LOADING]
    target = min(loading, key=lambda m: m.generation) if loading else (queue[0] if queue else None)
    return ServerStatus(
        state=server_state(models, starting, stopping, target is not None, now),
        models=tuple(model_status(m, queue, now) for m in models),
        switch_target=target.spec.model if target else None,
        current_model=current_model(models),
        version=version,
    )
