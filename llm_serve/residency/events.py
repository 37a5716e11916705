"""What happens to the scheduler. Every event is a fact that someone else observed.

Seconds are floats, sizes are bytes. Events may come late, twice, or for a model that has moved on;
the scheduler then ignores them. No event makes `Scheduler.handle` raise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from llm_serve.progress import ModelInfo


@dataclass(frozen=True, slots=True)
class Request:
    """A request for a model that its ingress does not hold for ready.

    `hold_s` is how long the client is held; None: it is answered at once (202). A ticket is free
    again once it was answered, so a request that raced a switch asks again under the same one.
    """

    ticket: str
    model: str
    ingress: str
    hold_s: float | None = None


@dataclass(frozen=True, slots=True)
class Cancel:
    """The client of a held request left."""

    ticket: str


@dataclass(frozen=True, slots=True)
class Use:
    """One model as one ingress sees it, in sequences. `idle_s`: seconds since it last sent or
    finished work. `held` wait for the load: they have tickets, and are no work of the model."""

    in_flight: int
    queued: int = 0
    idle_s: float = 0.0
    held: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """The periodic report of one ingress.

    `acked` is the snapshot version that it
    routes by: it has stopped sending to every model that is not ready in there. `uses` names the
    models with work in flight or with any use since the last report; the others have none.
    """

    ingress: str
    acked: int
    uses: Mapping[str, Use] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class IngressGone:
    """An ingress process ended: its clients are gone with it."""

    ingress: str


@dataclass(frozen=True, slots=True)
class Asks:
    """A replica's process is there and holds nothing yet: it asks whether it may load.

    `bins` is where Ray put it. It may ask again and again; `Begin` is the answer.
    """

    model: str
    replica: str
    bins: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """A replica is loading. `fraction` of this stage in 0..1, or None. `estimate`: bytes that it
    will take, as its files and its machine have it; None: nothing new."""

    model: str
    replica: str
    stage: str
    fraction: float | None = None
    estimate: int | None = None


@dataclass(frozen=True, slots=True)
class Up:
    """A replica answers. `footprint` bytes were measured; `bins` is where Ray really put it, `info`
    what clients are shown of the loaded model."""

    model: str
    replica: str
    footprint: int
    load_s: float
    bins: tuple[str, ...] | None = None
    info: ModelInfo | None = None


@dataclass(frozen=True, slots=True)
class Unusable:
    """A replica could not load, or its engine ended after it had.

    Its process may live on until Ray ends it."""

    model: str
    replica: str
    reason: str


@dataclass(frozen=True, slots=True)
class Died:
    """A replica's process ended. Where its model's target is above 0, Ray starts another by
    itself."""

    model: str
    replica: str
    reason: str


@dataclass(frozen=True, slots=True)
class Doubted:
    """Somebody took a replica for dead. If it is not, it reports again, and all is as before."""

    model: str
    replica: str


@dataclass(frozen=True, slots=True)
class Running:
    """Which processes of the model there are, memory included, since a target took effect.

    `generation` is that target's; an answer to an older one is ignored. No `replicas` after
    `Target(model, 0)`: it is gone, and its memory was seen to be free.
    """

    model: str
    generation: int
    replicas: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Observed:
    """A new director finds a replica running (rule 9). Said before `Recovered`."""

    model: str
    replica: str
    state: Literal["loading", "ready", "draining"]
    footprint: int | None = None
    load_s: float | None = None
    bins: tuple[str, ...] | None = None
    info: ModelInfo | None = None


@dataclass(frozen=True, slots=True)
class Recovered:
    """Everything that runs was observed; from here on the scheduler decides."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """The bins there are now, in bytes that models may use (a node came or went)."""

    bins: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Load:
    """An operator wants the model up; counts as a waiting client until it is."""

    ticket: str
    model: str


@dataclass(frozen=True, slots=True)
class Unload:
    """An operator wants the model gone. Declined for a pinned one."""

    ticket: str
    model: str


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed. Several a second; every deadline is noticed at the next event."""


@dataclass(frozen=True, slots=True)
class Shutdown:
    """The server is going down: nobody new is let in, nothing new is loaded."""


Event = (
    Request
    | Cancel
    | Usage
    | IngressGone
    | Asks
    | Progress
    | Up
    | Unusable
    | Died
    | Doubted
    | Running
    | Observed
    | Recovered
    | Capacity
    | Load
    | Unload
    | Tick
    | Shutdown
)
