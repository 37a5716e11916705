"""An ingress's side of the director, with a director that answers as told."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from deployments.reports import Told, View
from llm_serve.config import Config
from llm_serve.residency import effects as fx
from llm_serve.residency import events as ev
from tests.support.inprocess import echo

FAILED = fx.Failed("t", "echo/a", "no such weights", 10)


class _Director:
    """Its answers are those of `tick`; its views are given out by the test, one by one."""

    def __init__(self, tick: int) -> None:
        self.tick = tick
        self.views: asyncio.Queue[View] = asyncio.Queue()

    def __getattr__(self, method: str) -> Any:
        return _Method(getattr(self, f"on_{method}"))

    async def on_ask(self, question: ev.Request) -> Told:
        return Told(FAILED, self.tick)

    async def on_watch(self, seen: int) -> View:
        return await self.views.get()

    async def on_usage(self, usage: ev.Usage) -> dict[str, ev.Use]:
        return {}


class _Method:
    def __init__(self, function: Any) -> None:
        self._function = function

    def remote(self, *arguments: Any) -> asyncio.Future[Any]:
        return asyncio.ensure_future(self._function(*arguments))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_an_answer_comes_once_its_view_is_in_force() -> None:
    from deployments.link import DirectorLink

    director = _Director(tick=7)

    class Link(DirectorLink):
        def _get(self) -> Any:
            return director

    link = Link("app", "ingress", Config.model_validate({"models": [echo("echo/a")]}), {})
    snapshot = fx.Snapshot(1, "ok", False, None, None, ())
    director.views.put_nowait(View(snapshot, tick=6))
    assert await link.changed(0) == 6
    answer = asyncio.ensure_future(link.ask(ev.Request("t", "echo/a", "ingress", None)))
    await asyncio.wait({answer}, timeout=0.3)
    assert not answer.done(), "what /v1/models shows is older than this answer"
    director.views.put_nowait(View(snapshot, tick=7))
    assert await answer == FAILED
    assert link.view is not None
    assert link.view.tick == 7
    for task in link._tasks:
        task.cancel()
