"""A replica whose engine has ended, without Ray: nobody is left waiting for it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from llm_serve.errors import EngineDied

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


async def _dead() -> None:
    raise EngineDied("The engine is gone.")


@pytest.fixture
def replica(monkeypatch: pytest.MonkeyPatch) -> Any:
    """One that is ready, over an engine whose health check fails from now on."""
    from deployments.app import replica as module
    from deployments.app.messages import ReplicaReport

    monkeypatch.setattr(module, "_TOLD_S", 0.01)
    bare = type("Bare", (module.Replica,), {"__del__": lambda self: None})  # only Ray awaits it
    made = object.__new__(bare)
    made._backend = SimpleNamespace(check_health=_dead)
    made._report = ReplicaReport("echo/a", "a-1", "p", ("n",), "ready")
    made._changed = asyncio.Event()
    made._working = 0
    return made


@pytest.mark.parametrize(("working", "codes"), [(0, []), (3, [1])])
async def test_requests_that_a_dead_engine_does_not_end_are_ended(
    replica: Any, monkeypatch: pytest.MonkeyPatch, working: int, codes: list[int]
) -> None:
    exits: list[int] = []
    monkeypatch.setattr("os._exit", exits.append)
    replica._loop = asyncio.get_running_loop()
    replica._working = working
    with pytest.raises(EngineDied):
        await replica.check_health()
    assert replica._report.state == "failed"
    await replica._ending
    assert exits == codes
