"""The rules of `llm_serve/residency/DESIGN.md`, asserted against what really runs in a world."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_serve.residency.state import Model, Phase

if TYPE_CHECKING:
    from tests.residency.world import World


def check(world: World) -> None:
    if world.scheduler._recovered:  # until then it hears what runs, one process after the other
        _rule_1(world)
    _rule_3(world)
    _rules_5_and_7(world)
    _rule_6(world)
    _rule_10(world)
    _up(world)
    scheduler = world.scheduler
    assert scheduler.snapshot == scheduler._picture(), "the published picture is stale"
    for name in scheduler.snapshot.ready():
        assert world.target[name].replicas, "rule 8: shown as ready after it was stopped"


def need(world: World, name: str, bin_name: str) -> int:
    return world.scheduler.models[name].need(world.capacity[bin_name])


def granted(world: World, bin_name: str) -> int:
    shares = [s for m in world.scheduler.models.values() for s in m.shares]
    return sum(share.each.get(bin_name, 0) for share in shares)


def _rule_1(world: World) -> None:
    used = dict.fromkeys(world.capacity, 0)
    begun = [p for p in world.processes if p.begun]
    for process in begun:
        for name in process.bins:
            used[name] += need(world, process.model, name)
    for name, size in used.items():
        most = max(world.capacity[name], world.overfilled.get(name, 0))
        assert size <= most, f"rule 1: {name} holds {size}"
    world.overfilled = {
        name: min(size, granted(world, name))
        for name, size in world.overfilled.items()
        if granted(world, name) > world.capacity[name]
    }
    limit = world.knobs.max_resident
    assert limit is None or len({p.model for p in begun}) <= limit, "rule 1"


def _rule_3(world: World) -> None:
    for ticket, asked in world.open.items():
        assert asked.held, f"rule 3: {ticket} got no 202"
        assert asked.until > world.now, f"rule 3: {ticket} hangs"
    for ticket, asked in world.open.items():
        here = world.ingresses.get(asked.ingress)
        assert here is None or not world.silent(here), f"rule 3: {ticket} is of a dead ingress"
    told = {t for m in world.scheduler.models.values() for t in m.tickets}
    assert told == set(world.open), "rule 3: a request was lost"


def _protected(world: World, model: Model) -> bool:
    knobs, up = world.knobs, world.now - model.ready_at
    if model.pinned or model.phase is Phase.LOADING:
        doubted = any(s.doubted for s in model.shares)
        fresh = world.now - model.phase_at < (knobs.ingress_timeout_s if doubted else 1e-9)
        return model.pinned or model.demand(world.now) or fresh
    return up < max(knobs.min_residency_s, knobs.settle_s) or (
        not model.used_since_ready and model.lease_until > world.now
    )


def _rules_5_and_7(world: World) -> None:
    scheduler = world.scheduler
    queue = world.queue()
    if not queue or not scheduler._recovered or scheduler._stopping:
        return
    head = queue[0]
    overdue = head.since is not None and world.now - head.since >= world.knobs.max_wait_s
    models = scheduler.models.values()
    staying = [m for m in models if m.shares and not m.leaving]
    kept = [m for m in staying if _protected(world, m)]
    idle_loads = [m for m in staying if m.phase is Phase.LOADING and not _protected(world, m)]
    if overdue and _would_fit(world, head, kept):
        assert _would_fit(world, head, staying), "rule 5: overdue, and nobody makes room"
    rest = [m for m in staying if m not in idle_loads]
    if idle_loads and _would_fit(world, head, rest):
        assert _would_fit(world, head, staying), "rule 7: a load that nobody wants blocks"


def _would_fit(world: World, head: Model, others: list[Model]) -> bool:
    limit = world.knobs.max_resident
    if limit is not None and len([m for m in others if m is not head]) >= limit:
        return False
    free = dict(world.capacity)
    for other in others:
        for share in other.shares[: len(other.shares) - other.shedding]:
            for name, size in share.each.items():
                free[name] -= size
    nodes: dict[str, int] = {}
    for name, size in free.items():
        kind = ("/" in name) == head.spec.accelerated
        if kind and head.need(world.capacity[name]) <= size:
            node = name.rsplit("/", 1)[0]
            nodes[node] = nodes.get(node, 0) + 1
    return any(n >= head.spec.bins for n in nodes.values())


def _up(world: World) -> None:
    for status in world.scheduler.snapshot.models:
        assert status.eta_s is None or 0 <= status.eta_s < 1e6, "no time that one could wait"
        up = [p for p in world.of(status.id) if p.up]
        assert status.replicas <= len(up), "a replica counts before it is loaded"
        if status.state == "ready":
            assert status.replicas, "ready, and none of its replicas is"


def _rule_6(world: World) -> None:
    state = world.scheduler.snapshot.state
    if any(until > world.now for until in world.cooldown_until.values()):
        assert state in ("degraded", "starting", "draining"), "rule 6: not degraded"


def _rule_10(world: World) -> None:
    scheduler = world.scheduler
    for model in scheduler.models.values():
        keep = model.spec.keep_alive_s
        keep = world.knobs.keep_alive_s if keep is None else keep
        if model.phase is Phase.READY and keep is not None and not model.pinned:
            idle = not model.in_flight and not model.demand(world.now)
            old = world.now - max(model.last_used, model.phase_at) >= max(keep, 1e-9)
            assert not (idle and old), "rule 10: idle above keep_alive_s"
    if scheduler.snapshot.state == "ok" and scheduler._recovered:
        for name, spec in world.specs.items():
            if spec.preload:
                model = scheduler.models[name]
                tried = name in world.first_up or model.failures or model.last_error
                assert tried, "rule 10: ok before the preloads were up"
