"""More than one replica: granted while there is room to spare, taken back when anybody waits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from llm_serve.residency.lifecycle import Lifecycle
from llm_serve.residency.plan import budget
from llm_serve.residency.state import Model, Phase


def grow(
    models: Iterable[Model], capacity: Mapping[str, int], lifecycle: Lifecycle, now: float
) -> None:
    """One more replica for every model whose replicas are all up and have requests queued.

    Only called when nobody waits for a turn; Ray decides within the grant how many really run.
    """
    models = list(models)
    for model in models:
        if model.phase is not Phase.READY or model.queued == 0 or model.shedding:
            continue
        if len(model.shares) >= model.spec.max_replicas or model.grow_from > now:
            continue
        if model.up < len(model.shares):
            continue
        room = budget.Room(models, capacity)
        for names in budget.groups(model.spec, capacity):
            fitting = [
                n for n in names if model.need(capacity[n]) <= min(room.free(n), room.final(n))
            ]
            if len(fitting) >= model.spec.bins:
                bins = tuple(sorted(fitting)[: model.spec.bins])
                model.shares.append(budget.share_of(model, bins, capacity))
                lifecycle.target(model, len(model.shares))
                break


def shed(models: Iterable[Model], lifecycle: Lifecycle) -> bool:
    """Takes the grants above one replica back; whether there were any.

    Ray picks the replicas that leave, and drains them; `trim` frees their shares.
    """
    found = False
    for model in models:
        if model.phase is Phase.READY and len(model.shares) - model.shedding > 1:
            model.shedding = len(model.shares) - 1
            lifecycle.target(model, 1)
            found = True
    return found


def trim(model: Model, running: tuple[str, ...]) -> None:
    """Frees the shares of replicas that left after `shed`; a count from before changes nothing."""
    if not model.shedding:
        return
    for replica in model.replicas:
        if replica not in running:
            model.replica_died(replica)
    for share in [s for s in model.shares if s.replica is None]:
        if model.shedding and len(model.shares) > max(1, len(running)):
            model.shares.remove(share)
            model.shedding -= 1
