"""What the scheduler knows about one model. Only `Scheduler` writes these."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

from llm_serve.progress import ModelInfo

Revoked = Literal["turn", "idle", "told"]
"""Why a model was asked to leave: another one's turn, keep-alive, or no way around it."""


class Phase(Enum):
    """Where a model is.

    UNLOADED -> LOADING -> READY -> REVOKING -> LEAVING -> UNLOADED

    REVOKING: the ingresses are told, nothing else has happened, and it can still go back to READY.
    LEAVING: its target is 0; it drains and keeps its share until it is gone. LOADING goes straight
    to LEAVING when it fails or is cancelled, since nothing was sent to it.
    """

    UNLOADED = "unloaded"
    LOADING = "loading"
    READY = "ready"
    REVOKING = "revoking"
    LEAVING = "leaving"


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What the configuration says about a model.

    `footprint`: bytes of one replica over all its bins, as declared or estimated. `declared`: bytes
    that it takes at least, whatever was measured. `bins`: how many bins of one node a replica
    spreads over. `fraction`: how much of each accelerator it takes at least, as Ray counts
    `num_gpus`; at 0 it runs in the memory of its node.
    `keep_alive_s` None: the server's.
    """

    model: str
    footprint: int
    bins: int = 1
    fraction: float = 0.0
    declared: int = 0
    max_replicas: int = 1
    pinned: bool = False
    preload: bool = False
    keep_alive_s: float | None = None
    load_s: float | None = None

    @property
    def accelerated(self) -> bool:
        """Whether its bins are accelerators, or else nodes."""
        return self.fraction > 0 or self.bins > 1


@dataclass(frozen=True, slots=True)
class Measurement:
    """What was measured in an earlier life of the server."""

    footprint: int
    load_s: float | None = None


@dataclass(frozen=True, slots=True)
class Ticket:
    """One request that waits. `held`: its client is; else it gets its 202 in the same call."""

    ingress: str
    until: float
    held: bool


@dataclass(slots=True, eq=False)
class Share:
    """The memory that one granted replica holds: `each` bytes in every one of `bins`."""

    bins: tuple[str, ...]
    each: dict[str, int]
    replica: str | None = None
    """The process that may use it; None: none has asked yet, or the last one has ended."""
    up: bool = False
    doubted: bool = False
    """It was up, and somebody took it for dead."""
    broken: bool = False
    """Its load failed, or its engine ended."""
    deaths: int = 0
    """Processes that were killed in the load that is under way."""


@dataclass(slots=True, eq=False)
class Applicant:
    """A process that asked whether it may load, and since when it waits."""

    bins: tuple[str, ...] | None
    since: float


TOMBSTONES = 32


@dataclass(slots=True, eq=False)
class Model:
    """Everything that changes about a model. Times are the caller's clock, in seconds."""

    spec: ModelSpec
    footprint: int
    load_s: float | None
    measured: bool = False
    """Whether `footprint` was measured; an estimate changes it no more."""
    phase: Phase = Phase.UNLOADED
    phase_at: float = 0.0
    generation: int = 0
    shares: list[Share] = field(default_factory=list)
    shedding: int = 0
    """So many shares at the end of the list are to go: the target is below their number."""
    applicants: dict[str, Applicant] = field(default_factory=dict)
    """Processes that hold nothing and wait for a share."""
    displaced: int = 0
    """Processes that were ended since it was last up, because they were put where no room is."""
    grow_from: float = 0.0
    """No further replica before this."""
    stranger: bool = False
    """It runs and is not configured: all that it may do is leave."""
    dead: list[str] = field(default_factory=list)
    """Replicas that are known to be gone; what they still say is ignored."""

    tickets: dict[str, Ticket] = field(default_factory=dict)
    lease_until: float = 0.0
    """A client that was sent away with Retry-After counts as waiting until then."""
    wanted: bool = False
    """An operator, a preload or a pin waits for it."""
    since: float | None = None
    """Since when somebody waits for it without a break."""
    reserved: tuple[str, ...] | None = None
    """The bins that it waits for while nobody there can leave yet."""
    room_at: float = math.inf
    """When it finds room at the latest, while it waits for its turn; infinity: nobody knows."""
    drain_s: float | None = None
    """What its last drain took."""
    info: ModelInfo | None = None
    """What its last load found out, for clients; the scheduler only passes it on."""

    ready_at: float = 0.0
    last_used: float = 0.0
    in_flight: int = 0
    queued: int = 0
    used_since_ready: bool = False
    """Used since it came up."""
    revoked_version: int = 0
    revoked: Revoked = "turn"
    killed: bool = False

    failures: int = 0
    cooldown_until: float = 0.0
    last_error: str | None = None
    stage: str | None = None
    fraction: float | None = None
    progress_at: float = 0.0

    def need(self, capacity: int) -> int:
        """Bytes that one replica takes in a bin of `capacity` bytes."""
        spec = self.spec
        if spec.fraction >= 1:  # nobody else gets in, whatever its engine takes there
            return max(capacity, -(-spec.declared // spec.bins))
        return max(math.ceil(capacity * spec.fraction), -(-self.footprint // spec.bins))

    def demand(self, now: float) -> bool:
        """Whether anybody waits for it."""
        return bool(self.tickets) or self.wanted or self.lease_until > now

    def queued_for_load(self, now: float) -> bool:
        """Whether it waits for its turn: wanted, not up, not coming up, not cooling down."""
        return (
            self.demand(now)
            and self.phase not in (Phase.READY, Phase.LOADING)
            and self.cooldown_until <= now
        )

    @property
    def pinned(self) -> bool:
        return self.spec.pinned

    @property
    def leaving(self) -> bool:
        return self.phase in (Phase.REVOKING, Phase.LEAVING)

    @property
    def replicas(self) -> list[str]:
        return [s.replica for s in self.shares if s.replica is not None]

    @property
    def up(self) -> int:
        """Replicas that are loaded and answer."""
        return sum(s.up for s in self.shares)

    def share_of(self, replica: str) -> Share | None:
        return next((s for s in self.shares if s.replica == replica), None)

    def last(self, share: Share) -> None:
        """Makes `share` the first to go."""
        self.shares.remove(share)
        self.shares.append(share)

    def replica_died(self, replica: str) -> None:
        """Remembers that `replica` is gone."""
        for share in self.shares:
            if share.replica == replica:
                share.replica, share.up, share.doubted, share.broken = None, False, False, False
        self.applicants.pop(replica, None)
        self.dead = [*self.dead[1 - TOMBSTONES :], replica]
