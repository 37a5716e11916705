"""The director without Ray: it answers while files are read, whatever the disk does."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from llm_serve.api.response_store import StoredResponse
from llm_serve.config import Config
from llm_serve.progress import LoadProgress, ModelInfo
from llm_serve.residency import effects as fx
from llm_serve.residency import events as ev
from tests.support.inprocess import echo
from tests.support.waiting import until

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
A, B = "echo/a", "echo/b"
NODE = {"n": 100 * 2**30}


def config(**model: Any) -> Config:
    return Config.model_validate({"models": [echo(A, **model), echo(B, **model)]})


class World:
    """What the director meets: a disk that may be slow, a cluster, replicas."""

    def __init__(self) -> None:
        self.bins = NODE
        self.actors: dict[str, list[str]] = {}
        self.looking = False
        self.disk = threading.Event()
        self.disk.set()
        self.readers: set[str] = set()
        self.failures = 0
        self.sizes: dict[str, int] = {}

    def read(self) -> None:
        self.readers.add(threading.current_thread().name)
        assert self.disk.wait(10)
        if self.failures:
            self.failures -= 1
            raise OSError("a stale handle")

    def estimate(self, model: Any) -> int:
        self.read()
        return self.sizes.get(model.id, 2**30)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    from deployments.app import cluster_watch, scheduler_setup
    from deployments.app import director as module

    here = World()

    class ReplicaCensus:
        seen: set[str]
        ingresses: set[str]

        def __init__(self, app: str) -> None: ...
        def hurry(self) -> None: ...
        def due(self, in_motion: bool) -> bool:
            return here.looking

        async def replicas(self) -> dict[str, list[str]]:
            self.seen = {actor for actors in here.actors.values() for actor in actors}
            self.ingresses = {"i"}
            return here.actors

    class Measurements:
        def known(self, models: Any) -> dict[str, Any]:
            here.read()
            return {}

        def keep(self, *measured: Any) -> None:
            here.read()

    def nobody(*_: Any, **__: Any) -> None:
        raise ValueError

    gpus = SimpleNamespace(known={}, look=lambda: None)
    monkeypatch.setattr(cluster_watch, "ReplicaCensus", ReplicaCensus)
    monkeypatch.setattr(module, "Measurements", Measurements)
    monkeypatch.setattr(cluster_watch, "GpuMemory", lambda: gpus)
    monkeypatch.setattr(cluster_watch, "capacity", lambda config, gpus: here.bins)
    monkeypatch.setattr(module.ray, "get_actor", nobody)
    monkeypatch.setattr(scheduler_setup, "estimate", here.estimate)
    return here


@pytest.fixture
async def director(world: World) -> AsyncIterator[Callable[[], Any]]:
    from deployments.app import director as module

    made: list[Any] = []

    def make() -> Any:
        made.append(module.Director("app", config()))
        return made[-1]

    yield make
    world.disk.set()
    for one in made:
        one._work.cancel()
        one._files.shutdown()


def report(state: str, actor: str = "a-1", **fields: Any) -> Any:
    from deployments.app.messages import ReplicaReport

    return ReplicaReport(A, actor, "p", ("n",), state, **fields)


async def loads(director: Any, world: World, actor: str) -> bool:
    """Whether a new replica may load, soon after somebody came to wait for its model."""
    await director.usage(ev.Usage("i", 0, {}))
    held = asyncio.ensure_future(director.ask(ev.Request("t", A, "i", 100.0)))
    world.actors = {A: [actor]}
    try:
        async with asyncio.timeout(3):
            while not await director.report(report("waiting", actor)):
                continue
            return True
    except TimeoutError:
        return False
    finally:
        held.cancel()


async def recovered(director: Any) -> None:
    await asyncio.wait_for(director._recovered.wait(), 5)


async def test_a_slow_disk_stops_nobody_and_nothing_that_is_said_is_lost(
    world: World, director: Callable[[], Any]
) -> None:
    world.disk.clear()
    began = time.monotonic()
    here = director()
    held = asyncio.ensure_future(here.ask(ev.Request("t", A, "i", 100.0)))
    left = asyncio.ensure_future(here.ask(ev.Request("u", B, "i", 100.0)))
    world.actors = {A: ["a-1"]}
    await asyncio.sleep(0)
    assert await here.usage(ev.Usage("i", 0, {A: ev.Use(3)})) == {}
    ready = report("ready", info=ModelInfo(1, 0, "none", "cpu", "0"))
    assert not await here.report(ready)
    await here.replica_died("p")
    assert not await here.report(ready), "it lives"
    await here.cancel("u")
    assert (await here.grants({}, moving=True)).grants == {}
    assert time.monotonic() - began < 3
    assert not held.done()
    assert not here._recovered.is_set(), "nobody is answered before it knows what runs (rule 9)"
    world.disk.set()
    await recovered(here)
    told = await asyncio.wait_for(held, 5)
    assert isinstance(told.answer, fx.Admitted)
    assert left.cancelled()
    assert here._scheduler.ingresses.counts(A) == (3, 0)
    view = await here.watch(0)
    assert view.snapshot.ready() == {A}
    assert view.snapshot.model(A).info == ready.info
    assert world.readers == {"files_0"}


async def test_a_new_configuration_is_read_beside_the_loop_too(
    world: World, director: Callable[[], Any]
) -> None:
    world.actors = {A: ["a-1"]}
    here = director()
    await here.report(report("ready"))
    await recovered(here)
    before = (await here.watch(0)).snapshot.version
    watching = asyncio.ensure_future(here.watch(before))
    await asyncio.sleep(0)
    world.disk.clear()
    await here.configure(config(max_queued=7), 1.0)
    newest = config(max_queued=8)
    await here.configure(newest, 2.0)
    await here.configure(config(max_queued=9), 1.5)
    await here.usage(ev.Usage("i", 0, {}))
    held = asyncio.ensure_future(here.ask(ev.Request("t", A, "i", 100.0)))
    await asyncio.sleep(0.2)
    assert not held.done()
    world.disk.set()
    view = await asyncio.wait_for(watching, 5)
    assert view.snapshot.ready() == {A}, "what runs is never shown as gone meanwhile"
    assert view.snapshot.version > before
    assert isinstance((await asyncio.wait_for(held, 5)).answer, fx.Admitted)
    assert here._config == newest
    assert world.readers == {"files_0"}


async def test_a_disk_that_fails_is_asked_again(world: World, director: Callable[[], Any]) -> None:
    world.failures = 2
    await recovered(director())
    assert not world.failures


async def test_measurements_are_kept_beside_the_loop(
    world: World, director: Callable[[], Any]
) -> None:
    here = director()
    await recovered(here)
    world.readers.clear()
    world.disk.clear()
    await asyncio.wait_for(here.report(report("ready", load_s=3.0)), 1)
    world.disk.set()
    here._files.shutdown()
    assert world.readers == {"files_0"}


async def test_an_estimate_of_the_replica_corrects_that_of_the_director(
    world: World, director: Callable[[], Any]
) -> None:
    here = director()
    await recovered(here)
    asked = asyncio.ensure_future(here.ask(ev.Request("t", A, "i", 100.0)))
    assert await here.report(report("waiting"))
    weights = LoadProgress("weights")
    await here.report(report("loading", progress=weights, estimate=5 * 2**30))
    assert here._scheduler.models[A].footprint == 5 * 2**30
    world.actors = {A: ["a-1"]}
    await here.configure(config(max_queued=7), 1.0)
    await recovered(here)
    assert here._scheduler.models[A].footprint == 5 * 2**30, "it is not told twice"
    asked.cancel()


async def test_what_is_known_of_a_loaded_model_outlives_it_and_a_new_configuration(
    world: World, director: Callable[[], Any]
) -> None:
    here = director()
    await recovered(here)
    info = ModelInfo(1, 0, "none", "cpu", "0")
    assert await loads(here, world, "a-1")
    await here.report(report("ready", info=info))
    assert here._view.snapshot.model(A).info == info
    here._handle(ev.Unload("u", A))
    await here.configure(config(max_queued=7), 1.0)  # nothing of it runs any more
    world.actors = {}
    here._watch._reports.clear()
    await recovered(here)
    shown = (await here.watch(0)).snapshot.model(A)
    assert (shown.state, shown.info) == ("unloaded", info)


async def test_gpus_that_join_later_are_pointed_out_once(
    world: World, director: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    here = director()
    models = [
        {"id": "m/gpu", "num_gpus": 0, "footprint_gb": 1},
        {"id": "m/cpu", "num_gpus": 0, "footprint_gb": 1, "engine": {"device": "cpu"}},
        echo(A),
    ]
    await here.configure(Config.model_validate({"models": models}), 1.0)
    await recovered(here)
    world.bins = {**NODE, "n/gpu0": 2**34}
    with caplog.at_level(logging.WARNING, "ray.serve"):
        for _ in range(2):
            here._watch._counted = 0.0
            await here._watch.nodes(here._config)
    (said,) = [r.getMessage() for r in caplog.records if "GPUs have joined" in r.getMessage()]
    assert "run without: m/gpu. Where" in said
    assert "set num_gpus, or deploy again" in said


async def test_a_replica_says_what_it_will_take_once_its_files_are_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from deployments.app import replica as replica_module

    looked: list[bool] = []

    def estimate(config: Any, *, here: bool) -> int:
        assert threading.current_thread() is not threading.main_thread()
        looked.append(here)
        return 5

    monkeypatch.setattr(replica_module, "estimate", estimate)
    replica = object.__new__(replica_module.Replica)
    replica._config, replica._report = config().models[0], report("loading")
    replica._sizing, replica._changed = None, asyncio.Event()
    monkeypatch.setattr(replica_module.Replica, "__del__", lambda self: None)
    replica._progressed(LoadProgress("download", 0.5))
    assert replica._sizing is None, "nothing is there yet"
    replica._loop = asyncio.get_running_loop()
    replica._progressed(LoadProgress("weights", 0.0))
    replica._progressed(LoadProgress("weights", 1.0))
    await replica._sizing
    assert (replica._report.estimate, looked) == (5, [True])


async def test_one_that_waited_in_vain_and_died_takes_no_place(
    world: World, director: Callable[[], Any]
) -> None:
    """Nobody wanted its model then; the next one to be started is let in."""
    here = director()
    await recovered(here)
    world.looking = True
    world.actors = {A: ["a-1"]}
    assert not await here.report(report("waiting"))
    world.actors = {}
    await asyncio.to_thread(until, lambda: not here._watch._reports, "it has looked")
    assert await loads(here, world, "a-2")


async def test_one_that_never_reported_and_died_takes_no_place(
    world: World, director: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new director takes it for one that loads; killed, it is not waited for."""
    from deployments.app import director as module

    monkeypatch.setattr(module, "RECOVERY_S", 0.2)
    world.actors = {A: ["a-1"]}
    here = director()
    await recovered(here)
    world.looking = True
    assert await loads(here, world, "a-2")


async def test_a_new_configuration_keeps_what_is_stored_within_its_bound(
    director: Callable[[], Any],
) -> None:
    one = director()
    stored = StoredResponse("me", b"{}", b"[]")
    await one.keep("resp_1", stored)
    await one.configure(config(load_s=1), since=1.0)
    assert await one.response("me", "resp_1") == b"{}"
    assert (await one.recall("me", "resp_1", ())).conversation == (b"[]",)
    smaller = config().model_dump() | {"server": {"response_store_mb": 0}}
    await one.configure(Config.model_validate(smaller), since=2.0)
    assert await one.response("me", "resp_1") is None
    assert not await one.forget("me", "resp_1")
