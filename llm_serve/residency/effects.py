"""What the scheduler wants done.

A ticket gets exactly one of `Admitted`, `Accepted`, `Failed`, `Declined`, `Expired`, `Done`, or its
client left (rule 3).
"""

from __future__ import annotations

from dataclasses import dataclass

from llm_serve.status import Loading, ServerStatus


@dataclass(frozen=True, slots=True)
class Target:
    """How many replicas the model may have: Ray keeps it between 1 and this, or at 0.

    `generation` grows with every target of this model; `Running` echoes it.
    """

    model: str
    replicas: int
    generation: int


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


@dataclass(frozen=True, slots=True)
class Admitted:
    """Send it now, unless a snapshot newer than the answer says otherwise; then ask again."""

    ticket: str
    model: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """202: the model is on its way; the client counts as waiting until it should be back."""

    ticket: str
    loading: Loading


@dataclass(frozen=True, slots=True)
class Failed:
    """503 `model_load_failed`: `reason` is a sentence for the person."""

    ticket: str
    model: str
    reason: str
    retry_after_s: int


@dataclass(frozen=True, slots=True)
class Declined:
    """409: shutting down, too many switches in line, or an operator stands against it."""

    ticket: str
    model: str
    reason: str


@dataclass(frozen=True, slots=True)
class Expired:
    """503: held as long as it wanted to be; `loading` says where that stands."""

    ticket: str
    loading: Loading


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

    snapshot: ServerStatus


Effect = (
    Target
    | Kill
    | Begin
    | Displace
    | Forgotten
    | Admitted
    | Accepted
    | Failed
    | Declined
    | Expired
    | Done
    | Measured
    | Publish
)
