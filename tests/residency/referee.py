"""What a world makes of effects, failures and restarts, and the rules that each must keep.

`invariants.py` asserts what holds at every moment; this is about one effect at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_serve.residency import Scheduler
from llm_serve.residency import events as ev
from llm_serve.residency.effects import Accepted, Admitted, Expired, Failed, Target
from llm_serve.residency.state import Phase
from llm_serve.status import ServerStatus
from tests.residency.cast import Answer
from tests.residency.invariants import granted

if TYPE_CHECKING:
    from tests.residency.world import World


def drop_the_silent(world: World) -> None:
    """Rules 3 and 7: the clients of an ingress that says nothing are gone with it."""
    for ingress in world.ingresses.values():
        if world.silent(ingress):
            ingress.heard_at = None
            gone = [t for t, a in world.open.items() if a.ingress == ingress.name]
            for ticket in gone:
                del world.open[ticket]


def answered(world: World, answer: Answer) -> None:
    asked = world.open.pop(answer.ticket, None)
    assert asked is not None, f"rule 3: {answer.ticket} was answered twice or had left"
    world.answers.setdefault(answer.ticket, []).append(answer)
    if isinstance(answer, Expired):
        assert asked.held
        assert world.now >= asked.until, "rule 3: expired too early"
    if isinstance(answer, Accepted):
        assert not asked.held, "a held client got a 202"
    if isinstance(answer, Admitted):
        world.admitted = answer


def published(world: World, before: ServerStatus, after: ServerStatus) -> None:
    assert after.version > before.version
    for ingress in world.ingresses.values():
        ingress.mail.append(after)
    for name in before.ready() - after.ready():
        status = next(m for m in after.models if m.id == name)
        if status.state == "draining":
            world.revoked_at[name] = world.now
            world.revoked_version[name] = after.version
            check_revocation(world, name)
    for name in after.ready():
        world.revoked_at.pop(name, None)


def check_revocation(world: World, name: str) -> None:
    model = world.scheduler.models[name]
    if name in world.told or model.revoked == "told":
        return
    assert not model.pinned, "rule 10: a pinned model was asked to leave"
    if sum(i.reported.get(name, 0) for i in world.live()):
        up = world.now - world.up_at[name]
        assert up >= world.knobs.min_residency_s, "rule 5: thrash"


def obey(
    world: World, target: Target, event: ev.Event, loading: set[str], waited: list[str]
) -> None:
    name = target.model
    here = [p for p in world.processes if p.model == name]
    begun = [p for p in here if p.begun]
    old = world.target.get(name)
    world.target[name] = target
    if target.replicas and not isinstance(event, ev.Recovered):
        assert old is None or old.replicas or not begun, "rule 4: two loads of one model"
    if target.replicas > len(here):
        assert world.now >= world.cooldown_until.get(name, 0), "rule 6: loaded in its cooldown"
        if not begun:
            world.loads.append(name)
        for share in world.scheduler.models[name].shares[len(here) :]:
            world._start(name, share.bins)
    elif target.replicas == 0 and (old is None or old.replicas):
        world.zero_at[name] = world.now
        if begun:
            check_end(world, name, event, name in loading, waited)
        world.told.discard(name)


def check_end(world: World, name: str, event: ev.Event, loading: bool, waited: list[str]) -> None:
    if getattr(event, "model", None) == name and isinstance(
        event, ev.Unusable | ev.Died | ev.Unload
    ):
        return
    if isinstance(event, ev.Recovered):
        return
    model = world.scheduler.models[name]
    if world.cooldown_until.get(name, 0) < model.cooldown_until:  # stalled
        world.failures[name] = world.failures.get(name, 0) + 1
        world.cooldown_until[name] = model.cooldown_until
        return
    if loading:
        bins = {b for share in model.shares for b in share.bins}
        overfilled = any(granted(world, b) > world.capacity[b] for b in bins)
        needed = any(m.spec.model != name for m in world.queue()) or waited or overfilled
        assert needed, "rule 7: nobody needed its place, and its bins had room"
        assert not model.pinned, "rule 10"
        alive = {i.name for i in world.ingresses.values() if not world.silent(i)}
        waiters = [a for a in world.open.values() if a.model == name and a.ingress in alive]
        assert not waiters, "rule 7: it had waiters"
    else:
        assert name in world.revoked_at, "rule 8: stopped before the ingresses were told"
        late = world.now - world.revoked_at[name] >= world.knobs.ack_timeout_s
        for ingress in world.live():
            heard = ingress.view.version >= world.revoked_version[name]
            assert heard or late, "rule 8: stopped before every ingress knew"


def tell_of_failure(world: World, name: str, event: ev.Unusable | ev.Died) -> None:
    model = world.scheduler.models[name]
    share = model.share_of(event.replica)
    loads = share is not None and not share.up and not share.doubted
    others = len(model.shares) - model.shedding > 1
    again = isinstance(event, ev.Died) and (share is None or (loads and not share.deaths))
    if again or (share in model.shares[len(model.shares) - model.shedding :]):
        before_it = model.failures
        world.tell(event)
        assert model.failures == before_it, "rule 6: nothing was lost with it"
        return
    loading = model.phase is Phase.LOADING and loads and not others
    waiting = [t for t, a in world.open.items() if a.model == name]
    before = model.failures
    if loading:  # the cooldown begins with this event
        world.cooldown_until[name] = 0
    world.tell(event)
    if not loading:
        if others and loads and model.phase in (Phase.READY, Phase.LOADING):
            assert not [e for e in world.effects if isinstance(e, Failed)], "the others serve"
        if model.cooldown_until > world.now:
            world.cooldown_until[name] = model.cooldown_until
        return
    knobs = world.knobs
    due = min(knobs.cooldown_max_s, knobs.cooldown_s * 2**before)
    assert abs(model.cooldown_until - world.now - due) < 1e-6, "rule 6: cooldown doubles"
    world.cooldown_until[name] = world.now + due
    for ticket in waiting:
        answer = world.answers[ticket][-1]
        assert isinstance(answer, Failed | Expired), "rule 6: no answer"
        assert isinstance(answer, Expired) or event.reason in answer.reason
    failed = [e for e in world.effects if isinstance(e, Failed)]
    assert all(e.model == name for e in failed), "rule 6: another model was disturbed"


def restart(world: World) -> None:
    """Rule 9: the director dies; another one looks at what runs and reloads nothing."""
    old = world.scheduler
    version = old.snapshot.version + 1000
    world.scheduler = Scheduler(
        world.specs.values(), world.capacity, world.knobs, known=world.known, counts_from=version
    )
    loads, still_open = len(world.loads), world.open
    world.open, world.cooldown_until, world.failures = {}, {}, {}
    world.revoked_at.clear()
    for ingress in world.ingresses.values():  # nobody has reported to the new one
        ingress.reported, ingress.reported_at, ingress.heard_at = {}, -1e9, None
    up = {p.model for p in world.processes if p.up and world.target[p.model].replicas}
    leaving = {p.model for p in world.processes if not world.target[p.model].replicas}
    for process in [p for p in world.processes if p.begun]:
        state = "ready" if process.up else "loading"
        state = "draining" if process.model in leaving else state
        size, bins = world.specs[process.model].footprint, process.bins
        world.tell(ev.Observed(process.model, process.replica, state, size, 1.0, bins))  # type: ignore[arg-type]
    for name in up:
        world.up_at[name] = world.now
    before = {p.replica for p in world.processes}
    world.overfilled = {n: granted(world, n) for n in world.capacity}  # what runs was not chosen
    world.tell(ev.Recovered())
    world.first_up |= {n for n, m in world.scheduler.models.items() if not m.spec.preload}
    assert all(world.target[n].replicas for n in up), "rule 9: a running model was stopped"
    assert before <= {p.replica for p in world.processes}
    for process in [p for p in world.processes if not p.begun]:
        world.asks(process)
    started = world.loads[loads:]
    assert not set(started) & up, "rule 9: a running model was loaded again"
    for ticket, asked in still_open.items():
        if not asked.load and not world.ingresses[asked.ingress].mute:
            hold = max(asked.until - world.now, 0.0) if asked.held else None
            world.ask(ticket, asked.model, hold, asked.ingress)
