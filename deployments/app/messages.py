"""What crosses between replicas, director and ingresses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from deployments.cluster.deaths import NodeMemory
from llm_serve.progress import LoadProgress, ModelInfo
from llm_serve.residency import effects as fx
from llm_serve.status import ServerStatus

REPORT_PERIOD_S = 2.0
"""A replica repeats its report so often, so that a restarted director knows all again."""
USAGE_PERIOD_S = 0.5
"""An ingress reports its usage so often, and at once when a snapshot must be acknowledged."""
SILENT_S = 4 * USAGE_PERIOD_S
"""For the others' bounds, an ingress that did not report for so long has no requests any more."""


@dataclass(frozen=True, slots=True)
class ReplicaReport:
    """What a model's replica says of itself. `actor` is the name of its Ray actor."""

    model: str
    actor: str
    process: str | None
    """Ray's id of that actor, which Ray names in its errors when the process has died."""
    bins: tuple[str, ...]
    """Where it runs, as `nodes.capacity` names it."""
    state: Literal["waiting", "loading", "ready", "failed"]
    """waiting: it holds nothing yet, and asks whether it may load."""
    progress: LoadProgress | None = None
    error: str | None = None
    info: ModelInfo | None = None
    memory: NodeMemory | None = field(default=None, compare=False)
    """Of its node, when it said this."""
    estimate: int | None = None
    """Bytes that it will take, from the files once they are there: the director's own guess may be
    older than the download, or made on another machine."""
    load_s: float = 0.0
    """Seconds from the permission to load until it was ready."""


@dataclass(frozen=True, slots=True)
class RoutingView:
    """What every ingress routes by and shows: the newest snapshot."""

    snapshot: ServerStatus
    age_s: float = 0.0
    """How old the snapshot's seconds are, where the view is given out."""


Answer = fx.Admitted | fx.Accepted | fx.Failed | fx.Declined | fx.Expired | fx.Done


@dataclass(frozen=True, slots=True)
class DirectorReply:
    """The director's answer to a question, and the version of the snapshot in which it is true."""

    answer: Answer
    version: int


Grants = dict[str, tuple[int, int]]
"""Model id to (replicas granted, generation of that grant)."""


class Granted(NamedTuple):
    """The director's answer: the grants, and whether a model comes or goes."""

    grants: Grants
    moving: bool
