"""Who acts in a world: processes, ingresses, and clients that asked."""

from __future__ import annotations

from dataclasses import dataclass, field

from llm_serve.residency.effects import Accepted, Admitted, Declined, Done, Expired, Failed
from llm_serve.status import ServerStatus

Answer = Admitted | Accepted | Failed | Declined | Expired | Done


@dataclass
class Process:
    """A replica with its memory, from the target that allowed it until it is gone."""

    model: str
    replica: str
    bins: tuple[str, ...]
    begun: bool = False
    """It was told that it may load; before that it holds nothing."""
    up: bool = False
    broken: bool = False


@dataclass
class Ingress:
    name: str
    view: ServerStatus
    mail: list[ServerStatus] = field(default_factory=list)
    in_flight: dict[str, int] = field(default_factory=dict)
    reported: dict[str, int] = field(default_factory=dict)
    reported_at: float = -1e9
    heard_at: float | None = None
    mute: bool = False
    """Its process is gone, and nobody says so."""


@dataclass
class Asked:
    model: str
    ingress: str
    until: float
    held: bool
    load: bool = False
