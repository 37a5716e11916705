"""What the scheduler wants done, and the one picture of the world that it publishes.

A ticket gets exactly one of `Admitted`, `Accepted`, `Failed`, `Conflict`, `Expired`, `Done`, or its
client left (rule 3).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Status = Literal["unloaded", "queued", "loading", "ready", "draining", "failed"]
ServerStatus = Literal["starting", "ok", "switching", "degraded", "draining"]


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """One model for `/v1/models`.

    `position` is 0 while it loads, 1 for the next in line, None when nobody waits. `progress` is
    the fraction of `stage`. `eta_s` and `cooldown_s` count from the publication, in seconds, and
    alone do not cause a new one.
    """

    model: str
    status: Status
    replicas: int = 0
    position: int | None = None
    stage: str | None = None
    progress: float | None = None
    last_error: str | None = None
    pinned: bool = False
    eta_s: float | None = field(default=None, compare=False)
    cooldown_s: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What every ingress routes by and shows. `version` grows with every publication."""

    version: int = field(compare=False)
    status: ServerStatus
    switch_in_progress: bool
    switch_target: str | None
    current_model: str | None
    """The ready model that came up last."""
    models: tuple[ModelStatus, ...]

    def ready(self) -> frozenset[str]:
        """The models to which requests may be sent without asking (rule 8)."""
        return frozenset(m.model for m in self.models if m.status == "ready")


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a client that waits is told: the body of the 202."""

    model: str
    status: Status
    position: int | None
    stage: str | None
    progress: float | None
    eta_s: float | None
    retry_after_s: int
    current_model: str | None


@dataclass(frozen=True, slots=True)
class Target:
    """How many replicas the model may have: Ray keeps it between 1 and this, or at 0.

    `bins` says where each granted replica was counted. `generation` grows with every target of
    this model; `Running` echoes it.
    """

    model: str
    replicas: int
    generation: int
    bins: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Begin:
    """The replica that asked may load: its memory is kept for it (rule 1)."""

    model: str
    replica: str


@dataclass(frozen=True, slots=True)
class Displace:
    """The replica that asked has no room where Ray put it: end it, Ray starts another."""

    model: str
    replica: str


@dataclass(frozen=True, slots=True)
class Forgotten:
    """An ingress is gone, and its clients with it: nobody reads the answers to its tickets."""

    ingress: str


@dataclass(frozen=True, slots=True)
class Kill:
    """The drain timeout passed and processes are still there: end them, then say `Running`."""

    model: str
    generation: int


@dataclass(frozen=True, slots=True)
class Admitted:
    """Send it now, unless a snapshot newer than `version` says otherwise; then ask again."""

    ticket: str
    model: str
    version: int


@dataclass(frozen=True, slots=True)
class Accepted:
    """202: the model is on its way; the client counts as waiting until it should be back."""

    ticket: str
    waiting: Waiting


@dataclass(frozen=True, slots=True)
class Failed:
    """503 `model_load_failed`: `reason` is a sentence for the person."""

    ticket: str
    model: str
    reason: str
    retry_after_s: int


@dataclass(frozen=True, slots=True)
class Conflict:
    """409: shutting down, too many switches in line, or an operator stands against it."""

    ticket: str
    model: str
    reason: str


@dataclass(frozen=True, slots=True)
class Expired:
    """503: held as long as it wanted to be; `waiting` says where it stands."""

    ticket: str
    waiting: Waiting


@dataclass(frozen=True, slots=True)
class Done:
    """The operator's `Unload` is under way, or there was nothing to do."""

    ticket: str
    model: str


@dataclass(frozen=True, slots=True)
class Measured:
    """Worth keeping across restarts; comes back as `Scheduler(known=...)`."""

    model: str
    footprint: int
    load_s: float


@dataclass(frozen=True, slots=True)
class Publish:
    """Every ingress gets this snapshot and acknowledges its version in `Usage.acked`."""

    snapshot: Snapshot


Effect = (
    Target
    | Kill
    | Begin
    | Displace
    | Forgotten
    | Admitted
    | Accepted
    | Failed
    | Conflict
    | Expired
    | Done
    | Measured
    | Publish
)
