"""What is known about each model and about the server: the truth behind every status route."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from llm_serve.progress import ModelInfo

ModelState = Literal["unloaded", "queued", "loading", "ready", "draining", "failed"]
ServerState = Literal["starting", "ok", "switching", "degraded", "draining"]


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """One allowlisted model, as of now."""

    id: str
    backend: str
    state: ModelState = "unloaded"
    stage: str | None = None
    progress: float | None = None
    """Of the stage, 0..1; None where it cannot be known."""
    error: str | None = None
    """Why the last load failed."""
    cooldown_s: float = 0.0
    """Seconds until a load is tried again after a failure."""
    eta_s: float | None = None
    """Seconds until it is ready, from measured loads; None where none was measured."""
    position: int | None = None
    """0 while it loads, 1 for the next in line, None when nobody waits for it."""
    replicas: int = 0
    pinned: bool = False
    info: ModelInfo | None = None
    running: int = 0
    queued: int = 0

    @property
    def loaded(self) -> bool:
        return self.state == "ready"


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """The whole server, as of now. `models` keeps the order of the configuration."""

    state: ServerState
    models: tuple[ModelStatus, ...]
    created: int = 0
    """Unix seconds when this server started."""
    switch_target: str | None = None
    current_model: str | None = None
    """The loaded model that came up last."""

    def model(self, model_id: str) -> ModelStatus | None:
        return next((m for m in self.models if m.id == model_id), None)


def server_state(models: tuple[ModelStatus, ...]) -> ServerState:
    """`degraded` once a load failed, `starting` until every model is up, else `ok`."""
    states = {model.state for model in models}
    if "failed" in states:
        return "degraded"
    return "ok" if states == {"ready"} else "starting"
