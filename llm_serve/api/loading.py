"""What a client is told while its model is not ready: the guide's `model.load` object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Loading:
    """Where a load stands. Seconds; `eta_s` from measured loads, None until there is one."""

    model: str
    current_model: str | None
    retry_after_s: int
    eta_s: float | None = None
    stage: str | None = None
    progress: float | None = None
    position: int | None = None

    def body(self) -> dict[str, Any]:
        """The guide's object, with `stage`, `progress` and `position` added."""
        return {
            "object": "model.load",
            "status": "spinning_up",
            "model": self.model,
            "current_model": self.current_model,
            "retry_after_seconds": self.retry_after_s,
            "eta_seconds": None if self.eta_s is None else round(self.eta_s, 1),
            "stage": self.stage,
            "progress": self.progress,
            "position": self.position,
        }

    def comment(self) -> bytes:
        """An SSE comment for a stream that is held; clients skip it, people can read it."""
        text = f": loading {self.model}"
        if self.position:
            text += f", number {self.position} in line"
        if self.stage is not None:
            text += f", {self.stage}"
        if self.progress is not None:
            text += f" {self.progress:.0%}"
        if self.eta_s is not None:
            text += f", eta {self.eta_s:.0f}s"
        return text.encode() + b"\n\n"


class Accepted(Exception):
    """The model is on its way; the client is asked to come back."""

    def __init__(self, loading: Loading) -> None:
        super().__init__(loading.model)
        self.loading = loading


class Readmit(Exception):
    """The model began to leave before the request started: it asks for admission again."""
