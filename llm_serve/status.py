"""What is known about each model and about the server: the truth behind every status route.

The scheduler publishes it, each ingress completes it with its own counts, and the routes show it.
Standard library only, so that all three can share it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from llm_serve.progress import ModelInfo

ModelState = Literal["unloaded", "queued", "loading", "ready", "draining", "failed"]
ServerState = Literal["starting", "ok", "switching", "degraded", "draining"]


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """One allowlisted model, as of now. What merely passes with time does not count in `==`."""

    id: str
    state: ModelState = "unloaded"
    replicas: int = 0
    position: int | None = None
    """0 while it loads, 1 for the next in line, None when nobody waits for it."""
    stage: str | None = None
    """Of the load, while it loads."""
    progress: float | None = None
    """Of the stage, 0..1; None where it cannot be known."""
    error: str | None = None
    """Why the last load failed."""
    pinned: bool = False
    info: ModelInfo | None = None
    """What its last load found out."""
    eta_s: float | None = field(default=None, compare=False)
    """Seconds until it is ready, from measured loads; None where one of them was never measured."""
    cooldown_s: float = field(default=0.0, compare=False)
    """Seconds until a load is tried again after a failure."""
    running: int = field(default=0, compare=False)
    """Sequences that its replicas work on; the scheduler leaves this and `queued` at 0."""
    queued: int = field(default=0, compare=False)

    @property
    def loaded(self) -> bool:
        return self.state == "ready"


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """The whole server, as of now. As the scheduler publishes it, it is called a snapshot."""

    state: ServerState
    models: tuple[ModelStatus, ...]
    switch_target: str | None = None
    """The model that loads, or the next in line; None where nobody waits."""
    current_model: str | None = None
    """The loaded model that came up last."""
    version: int = field(default=0, compare=False)
    """Grows with every snapshot."""
    created: int = 0
    """Unix seconds when this server started; the scheduler leaves it at 0."""

    def model(self, model_id: str) -> ModelStatus | None:
        return next((m for m in self.models if m.id == model_id), None)

    def ready(self) -> frozenset[str]:
        """The models to which requests may be sent without asking."""
        return frozenset(m.id for m in self.models if m.loaded)


@dataclass(frozen=True, slots=True)
class Loading:
    """What a client is told while its model is not ready: the guide's `model.load` object."""

    model: ModelStatus
    current_model: str | None = None
    retry_after_s: int = 2

    def body(self) -> dict[str, Any]:
        """The guide's object, with `stage`, `progress` and `position` added."""
        model = self.model
        return {
            "object": "model.load",
            "status": "spinning_up",
            "model": model.id,
            "current_model": self.current_model,
            "retry_after_seconds": self.retry_after_s,
            "eta_seconds": None if model.eta_s is None else round(model.eta_s, 1),
            "stage": model.stage,
            "progress": model.progress,
            "position": model.position,
        }

    def comment(self) -> bytes:
        """An SSE comment for a stream that is held; clients skip it, people can read it."""
        model = self.model
        text = f": loading {model.id}"
        if model.position:
            text += f", number {model.position} in line"
        if model.stage is not None:
            text += f", {model.stage}"
        if model.progress is not None:
            text += f" {model.progress:.0%}"
        if model.eta_s is not None:
            text += f", eta {model.eta_s:.0f}s"
        return text.encode() + b"\n\n"
