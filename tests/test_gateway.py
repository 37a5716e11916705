"""From routes to handles, with a director and replicas that do as told. On real Ray: switching."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest

from deployments.app.messages import RoutingView
from llm_serve.api.gateway import ComeBack
from llm_serve.config import Config
from llm_serve.errors import Conflict, EngineDied, NotReady, QueueFull
from llm_serve.generation.request import GenerationRequest
from llm_serve.residency import effects as fx
from llm_serve.sampling import Sampling
from llm_serve.status import Loading, ModelStatus, ServerStatus
from tests.support.inprocess import echo

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
COLD = ModelStatus("echo/a", "loading", stage="weights", progress=0.5, eta_s=10.0, position=0)
READY = ModelStatus("echo/a", "ready", replicas=1)


class _Link:
    """What a gateway needs of its DirectorClient."""

    name = "ingress"

    def __init__(self, *models: fx.ModelStatus, status: Any = "ok") -> None:
        self.view = RoutingView(ServerStatus(status, models, version=1))
        self.age_s = 0.0
        self.reported_dead: list[str] = []
        self.asked: list[Any] = []
        self.answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def may_send(self, model: str) -> bool:
        return self.view is not None and model in self.view.snapshot.ready()

    def leaving(self, model: str) -> asyncio.Future[None]:
        return asyncio.get_running_loop().create_future()

    async def ask(self, question: Any) -> Any:
        self.asked.append(question)
        return await asyncio.shield(self.answer)

    def cancel(self, ticket: str) -> None:
        self.asked.append(f"cancel {ticket}")

    def replica_died(self, process: str) -> None:
        self.reported_dead.append(process)

    def report_soon(self) -> None:
        pass


class _Handle:
    """Each request gets `messages`; one that is an exception is raised."""

    def __init__(self, *messages: bytes | BaseException) -> None:
        self.messages = messages
        self.generate = self

    def options(self, **_: Any) -> _Handle:
        return self

    def remote(self, job: GenerationRequest) -> Any:
        return _Messages(self.messages)


class _Messages:
    def __init__(self, messages: tuple[bytes | BaseException, ...]) -> None:
        self._rest = iter(messages)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        for message in self._rest:
            if isinstance(message, BaseException):
                raise message
            return message
        raise StopAsyncIteration

    def cancel(self) -> None:
        pass


def _gateway(link: _Link, *messages: bytes | BaseException, **model: Any) -> Any:
    from deployments.app.admission import Admission
    from deployments.app.gateway import HandleGateway

    config = Config.model_validate({"models": [echo("echo/a", **model)]})
    handles: Any = {"echo/a": _Handle(b"", *messages)}
    admission = {m.id: Admission(m) for m in config.models}
    return HandleGateway(config, handles, link, admission, 0)  # type: ignore[arg-type]


def _job(n: int = 1) -> GenerationRequest:
    return GenerationRequest(
        id="x", kind="chat", model="echo/a", created=0, sampling=Sampling(), n=n
    )


async def _waited(gateway: Any, hold_s: float | None) -> list[Loading]:
    return [loading async for loading in gateway.admit(_job(), hold_s)]


async def test_while_draining_nothing_new_is_let_in_though_the_model_is_ready() -> None:
    gateway = _gateway(_Link(READY, status="draining"), b"whole")
    for hold_s in (None, 5.0):
        with pytest.raises(Conflict, match="shutting down"):
            await _waited(gateway, hold_s)
    with pytest.raises(Conflict), gateway.place(_job()):
        pass
    with pytest.raises(Conflict):
        await gateway.load("echo/a")
    assert gateway.status().state == "draining"


async def test_what_runs_when_the_drain_begins_goes_on() -> None:
    link = _Link(READY)
    gateway = _gateway(link, b"one ", b"two")
    with gateway.place(_job()):
        await _waited(gateway, None)
        messages = gateway.generate(_job())
        assert await anext(messages) == b"one "
        link.view = RoutingView(ServerStatus("draining", (READY,), version=2))
        assert [message async for message in messages] == [b"two"]


async def test_whose_question_is_left_open_is_told_what_is_known() -> None:
    from deployments.app.director_client import DirectorAway

    link = _Link(COLD)
    link.answer.set_exception(DirectorAway())
    gateway = _gateway(link)
    with pytest.raises(ComeBack) as accepted:
        await _waited(gateway, None)
    assert accepted.value.loading.model.eta_s == 10.0
    with pytest.raises(NotReady) as late:
        await _waited(gateway, 5.0)
    assert late.value.loading is not None
    assert late.value.loading["progress"] == 0.5
    for operate in (gateway.load, gateway.unload):
        with pytest.raises(NotReady) as refused:
            await operate("echo/a")
        assert refused.value.retry_after_s == 2


async def test_without_any_view_nothing_is_made_up() -> None:
    from deployments.app.director_client import DirectorAway

    link = _Link()
    link.view = None  # type: ignore[assignment]
    link.answer.set_exception(DirectorAway())
    with pytest.raises(ComeBack) as accepted:
        await _waited(_gateway(link), None)
    loading = accepted.value.loading.model
    assert (loading.eta_s, loading.stage, loading.position) == (None, None, None)


async def test_the_seconds_that_are_shown_pass() -> None:
    link = _Link(COLD)
    gateway = _gateway(link)
    shown = [gateway.status().model("echo/a").eta_s]
    link.age_s = 4.0
    shown.append(gateway.status().model("echo/a").eta_s)
    link.age_s = 11.0
    shown.append(gateway.status().model("echo/a").eta_s)
    assert shown == [10.0, 6.0, None], "longer than ever: nobody knows"
    failed = ModelStatus("echo/a", "failed", error="x", cooldown_s=3.0)
    link.view = RoutingView(ServerStatus("degraded", (failed,), version=1))
    link.age_s = 1.0
    assert gateway.status().model("echo/a").cooldown_s == 2.0
    link.age_s = 9.0
    assert gateway.status().model("echo/a").cooldown_s == 0.0


async def test_only_a_replica_that_is_dead_is_buried() -> None:
    from ray._raylet import ActorID
    from ray.exceptions import ActorDiedError, ActorUnavailableError

    actor = ActorID.from_random().binary()
    link = _Link(READY)
    away = ActorUnavailableError("the connection broke", actor)
    assert away.actor_id is not None
    for error, reported_dead in ((away, 0), (ActorDiedError(), 0), (_died(actor), 1)):
        gateway = _gateway(link, error)
        with pytest.raises(EngineDied):
            await anext(gateway.generate(_job()))
        assert len(link.reported_dead) == reported_dead, error


def _died(actor: bytes) -> Any:
    from ray.exceptions import ActorDiedError

    error = ActorDiedError()
    error.actor_id = actor.hex()
    return error


async def test_held_requests_have_places_and_are_shown_as_queued() -> None:
    link = _Link(COLD)
    gateway = _gateway(link, b"x", max_running=1, max_queued=2)

    async def held() -> None:
        with gateway.place(_job()):
            await _waited(gateway, 60)
            async for _ in gateway.generate(_job()):
                pass

    waiting = [asyncio.create_task(held()) for _ in range(3)]
    await asyncio.sleep(0)
    status = gateway.status().model("echo/a")
    assert (status.running, status.queued) == (0, 3)
    with pytest.raises(QueueFull), gateway.place(_job()):
        pass
    waiting[0].cancel()
    with suppress(asyncio.CancelledError):
        await waiting[0]
    with pytest.raises(QueueFull), gateway.place(_job(n=2)):
        pass
    assert gateway.status().model("echo/a").queued == 2
    link.view = RoutingView(ServerStatus("ok", (READY,), version=2))
    link.answer.set_result(fx.Admitted("t", "echo/a"))
    await asyncio.gather(*waiting[1:])
    status = gateway.status().model("echo/a")
    assert (status.running, status.queued) == (0, 0)
