"""A small world, and what the examples of the rules do in it."""

from __future__ import annotations

from llm_serve.residency import Knobs, ModelSpec
from tests.residency.world import World

NODE = {"n": 100}
A, B, C = ModelSpec("a", 60), ModelSpec("b", 60), ModelSpec("c", 60)
KNOBS = Knobs(min_residency_s=10, max_wait_s=60, drain_timeout_s=100, max_pending_switches=3)


def world(*specs: ModelSpec, knobs: Knobs = KNOBS, bins: dict[str, int] | None = None) -> World:
    return World(list(specs or (A, B, C)), bins or NODE, knobs)


def come_up(here: World, name: str, seconds: float = 5.0) -> None:
    here.wait(seconds)
    here.up(name)
    here.deliver_all()


def resident(here: World, name: str) -> None:
    """Brings a model up and lets it become idle."""
    here.ask(f"first-{name}", name, 1000.0)
    come_up(here, name)
    here.wait(20.0)
    here.deliver_all()


def pass_time(here: World, seconds: float, step: float = 1.0) -> None:
    """Time passes, the ingresses report, and what has drained goes."""
    for _ in range(round(seconds / step)):
        here.wait(step)
        here.deliver_all()
        for name in {p.model for p in here.processes}:
            if not here.target[name].replicas and not here.work(name):
                here.gone(name)


def status(here: World, name: str) -> str:
    return next(m.state for m in here.scheduler.snapshot.models if m.id == name)
