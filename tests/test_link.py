"""An ingress's side of the director, with a director that answers as told."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from ray.exceptions import RayError

from deployments.app.messages import DirectorReply, RoutingView
from llm_serve.api.response_store import StoredResponse
from llm_serve.config import Config
from llm_serve.errors import InternalError, NotReady
from llm_serve.residency import effects as fx
from llm_serve.residency import events as ev
from llm_serve.status import ServerStatus
from tests.support.inprocess import echo

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
FAILED = fx.Failed("t", "echo/a", "no such weights", 10)


class _Director:
    """Its answers are those of `version`; its views are given out by the test, one by one."""

    def __init__(self, version: int) -> None:
        self.version = version
        self.views: asyncio.Queue[RoutingView] = asyncio.Queue()

    def __getattr__(self, method: str) -> Any:
        return _Method(getattr(self, f"on_{method}"))

    async def on_ask(self, question: ev.Request) -> DirectorReply:
        return DirectorReply(FAILED, self.version)

    async def on_watch(self, seen: int) -> RoutingView:
        return await self.views.get()

    async def on_usage(self, usage: ev.Usage) -> dict[str, ev.Use]:
        return {}


class _Method:
    def __init__(self, function: Any) -> None:
        self._function = function

    def remote(self, *arguments: Any) -> asyncio.Future[Any]:
        return asyncio.ensure_future(self._function(*arguments))


def _linked(director: _Director) -> Any:
    from deployments.app.director_client import DirectorClient

    class Link(DirectorClient):
        def _get(self) -> Any:
            self._director = director
            return director

    return Link("app", "ingress", Config.model_validate({"models": [echo("echo/a")]}), {})


def _end(link: Any) -> None:
    for task in link._tasks:
        task.cancel()


async def test_an_answer_comes_once_its_view_is_in_force() -> None:
    director = _Director(version=7)
    link = _linked(director)
    director.views.put_nowait(RoutingView(ServerStatus("ok", (), version=6)))
    assert await link.changed(0) == 6
    answer = asyncio.ensure_future(link.ask(ev.Request("t", "echo/a", "ingress", None)))
    await asyncio.wait({answer}, timeout=0.3)
    assert not answer.done(), "what /v1/models shows is older than this answer"
    director.views.put_nowait(RoutingView(ServerStatus("ok", (), version=7)))
    assert await answer == FAILED
    assert link.view is not None
    assert link.view.snapshot.version == 7
    _end(link)


class _Silent(_Director):
    """Stopped: it takes what is sent to it and answers nothing."""

    def __init__(self) -> None:
        super().__init__(1)
        self.cancelled: list[str] = []

    async def on_ask(self, question: Any) -> DirectorReply:
        return await asyncio.get_running_loop().create_future()

    async def on_usage(self, usage: ev.Usage) -> dict[str, ev.Use]:
        return await asyncio.get_running_loop().create_future()

    async def on_cancel(self, ticket: str) -> None:
        self.cancelled.append(ticket)


@pytest.mark.parametrize(
    ("question", "patience_s"),
    [
        (ev.Request("t", "echo/a", "ingress", None), 0.1),
        (ev.Request("t", "echo/a", "ingress", 0.3), 0.4),
        (ev.Load("t", "echo/a"), 0.1),
        (ev.Unload("t", "echo/a"), 0.1),
    ],
)
async def test_a_director_that_hangs_keeps_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch, question: Any, patience_s: float
) -> None:
    from deployments.app import director_client as module

    monkeypatch.setattr(module, "_ANSWER_S", 0.1)
    director = _Silent()
    link = _linked(director)
    began = asyncio.get_running_loop().time()
    with pytest.raises(module.DirectorAway):
        await link.ask(question)
    assert asyncio.get_running_loop().time() - began >= patience_s
    await asyncio.sleep(0)
    assert director.cancelled == ["t"], "once it goes on, nobody waits any more"
    _end(link)


async def test_a_director_that_hangs_is_ended_once_and_by_its_handle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import ray

    from deployments.app import director_client as module

    ended: asyncio.Queue[tuple[Any, bool]] = asyncio.Queue()

    def kill(actor: Any, *, no_restart: bool) -> None:
        ended.put_nowait((actor, no_restart))

    monkeypatch.setattr(ray, "kill", kill)
    monkeypatch.setattr(module, "_HUNG_S", 0.05)
    monkeypatch.setattr(module, "USAGE_PERIOD_S", 0.01)

    class Stops(_Silent):
        reports = 0

        async def on_usage(self, usage: ev.Usage) -> dict[str, ev.Use]:
            self.reports += 1
            return {} if self.reports == 1 else await super().on_usage(usage)

    never_heard = _linked(_Silent())
    await asyncio.sleep(0.2)
    assert ended.empty(), "it may still be starting"
    _end(never_heard)
    director = Stops()
    link = _linked(director)
    assert await asyncio.wait_for(ended.get(), 5) == (director, False)
    _end(link)


async def test_a_defect_of_the_director_is_told_and_not_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    from ray.exceptions import ActorUnavailableError, RayTaskError

    class Broken(_Director):
        asked = 0

        async def on_ask(self, question: Any) -> DirectorReply:
            self.asked += 1
            if self.asked == 1:
                raise ActorUnavailableError("it is being restarted", None)
            cause = KeyError("a defect")
            raise RayTaskError("ask", "Traceback: a defect", cause).as_instanceof_cause()

    director = Broken(1)
    link = _linked(director)
    with caplog.at_level(logging.CRITICAL), pytest.raises(InternalError) as caught:
        await asyncio.wait_for(link.ask(ev.Request("t", "echo/a", "ingress", None)), 5)
    assert "defect" not in caught.value.message
    assert director.asked == 2, "away is asked again, broken is not"
    _end(link)


async def test_a_question_that_the_director_forgot_is_asked_again() -> None:
    """It takes an ingress for gone that has not reported for long, and gives its tickets up."""
    from ray.exceptions import RayTaskError, TaskCancelledError

    class Forgetful(_Director):
        asked = 0

        async def on_ask(self, question: Any) -> DirectorReply:
            self.asked += 1
            if self.asked == 1:
                raise RayTaskError("ask", "cancelled", TaskCancelledError()).as_instanceof_cause()
            return await super().on_ask(question)

    director = Forgetful(1)
    link = _linked(director)
    director.views.put_nowait(RoutingView(ServerStatus("ok", (), version=1)))
    question = ev.Request("t", "echo/a", "ingress", None)
    assert await asyncio.wait_for(link.ask(question), 5) == FAILED
    assert director.asked == 2
    _end(link)


async def test_stored_responses_are_asked_of_the_next_director() -> None:
    class Dying(_Director):
        deaths = 2

        async def on_response(self, owner: str, response_id: str) -> bytes:
            if self.deaths:
                self.deaths -= 1
                raise RayError
            return f"{owner} {response_id}".encode()

    link = _linked(Dying(version=1))
    assert await link.response("me", "resp_1") == b"me resp_1"
    _end(link)


async def test_while_no_director_answers_a_response_is_not_stored_and_not_found(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from deployments.app import director_client

    class Away(_Director):
        async def on_keep(self, *_: Any) -> None:
            await asyncio.Event().wait()

        on_recall = on_keep

    monkeypatch.setattr(director_client, "_ANSWER_S", 0.05)
    link = _linked(Away(version=1))
    stored = StoredResponse("", b"{}", b"[]")
    with caplog.at_level(logging.WARNING, "ray.serve"):
        await link.keep("resp_1", stored)
    assert "not stored" in caplog.text
    with pytest.raises(NotReady) as away:
        await link.recall("", "resp_1", ())
    assert away.value.retry_after_s == 2
    _end(link)
