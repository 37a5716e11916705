"""kill -9 of everything, at every bad moment: the rules hold, and all recovers by itself (rule 9).

Who is killed: a model's replica, the director, the ingress, the Serve controller.
When: at rest, in the middle of a stream, in the middle of a switch with a client that is held.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import httpx
import psutil
import pytest

from deployments.app.names import deployment_of
from deployments.schema import APPLICATION
from llm_serve.errors import EngineDied, NotReady
from tests.support.client import CHAT, Api, refused, user
from tests.support.cluster import Cluster
from tests.support.residents import Residents
from tests.support.streaming import live
from tests.support.switching import ask, held, make_ready, said, shown, wait_for, wait_until_idle
from tests.support.waiting import until
from tests.switching.conftest import A, B

pytestmark = pytest.mark.ray
RECOVERY_S = 60.0
SURVIVES_STREAMS = {"model": False, "director": True, "ingress": False, "controller": True}
WHO = list(SURVIVES_STREAMS)


def _kill(cluster: Cluster, who: str, model: str) -> None:
    """Ends every process of that kind that serves the application at `/`, and waits for it."""
    name = deployment_of(model)
    titles = {
        "model": (
            f"ray::ServeReplica:{APPLICATION}:{name}",
            f"ray::SERVE_REPLICA::{APPLICATION}#{name}",
            f"ray::{name.removeprefix('Model.')}.",  # while it runs one of Ray's methods
        ),
        "ingress": (f"ray::ServeReplica:{APPLICATION}:Ingress",),
        "director": ("ray::Director",),
        "controller": ("ray::ServeController",),
    }[who]
    victims = until(
        lambda: [p for title in titles for p in cluster.processes(title)], f"there is a {who}"
    )
    for victim in victims:
        victim.kill()
    assert not psutil.wait_procs(victims, timeout=10)[1]


def _answer(api: Api, model: str, text: str) -> str:
    """Asks until there is an answer: what may come in between is an honest error, nothing else."""

    def answered() -> str | None:
        try:
            response = held(api, model, text)
        except httpx.TransportError:  # the connection went through the process that was killed
            return None
        assert response.status_code in (200, 502, 503), response.text
        return said(response) if response.status_code == 200 else None

    return until(answered, f"{model} answers", seconds=RECOVERY_S, every=0.2) or ""


def _well(api: Api) -> None:
    """The server says so itself, through whatever answers by now."""

    def ok() -> bool:
        try:
            return bool(api.health()["status"] == "ok")
        except httpx.TransportError:
            return False

    until(ok, "the server is ok", seconds=RECOVERY_S)


@pytest.fixture
def pair(api: Api, residents: Residents) -> tuple[str, str]:
    """A model that is ready, and one that is not."""
    now, other = (B, A) if shown(api, B)["loaded"] else (A, B)
    make_ready(api, now)
    wait_until_idle(api)
    return now, other


@pytest.mark.parametrize("who", WHO)
def test_at_rest(api: Api, switching: Cluster, pair: tuple[str, str], who: str) -> None:
    now, other = pair
    _kill(switching, who, now)
    if who in ("director", "controller"):
        for _ in range(5):
            response = ask(api, now, "still here", "respond-async")
            assert said(response) == "still here", "a ready model needs neither"
    assert _answer(api, now, "again") == "again"
    assert _answer(api, other, "and me") == "and me"
    _well(api)


@pytest.mark.parametrize("who", WHO)
def test_in_the_middle_of_a_stream(
    api: Api, switching: Cluster, pair: tuple[str, str], who: str
) -> None:
    now, _ = pair
    text = "word " * 100
    with live(api, now, text) as stream:
        stream.read(1)
        _kill(switching, who, now)
        if who == "ingress":
            with pytest.raises(httpx.TransportError):
                stream.read()
        else:
            stream.read()
    if SURVIVES_STREAMS[who]:
        assert stream.text == text
        assert stream.done
    elif who == "model":
        assert stream.error is not None
        assert stream.error["code"] == "engine_died"
    assert _answer(api, now, "again") == "again"
    _well(api)


@pytest.mark.parametrize("who", WHO)
def test_in_the_middle_of_a_switch(
    api: Api, switching: Cluster, pair: tuple[str, str], who: str
) -> None:
    """One streams, the other is asked for by a client that is held, and the first must leave."""
    now, other = pair
    text = "word " * 250
    with ThreadPoolExecutor(1) as pool, live(api, now, text) as stream:
        stream.read(1)
        waiter: Future[httpx.Response] = pool.submit(_held, api, other, "and me")
        wait_for(api, now, "draining", seconds=30)
        _kill(switching, who, now)
        if who == "ingress":
            with pytest.raises(httpx.TransportError):
                stream.read()
            # HAProxy tries the other ways to an ingress that it knows; where none is left, it says
            # that the connection broke, or that no ingress is up.
            refused(waiter.result(), NotReady if waiter.result().status_code == 503 else EngineDied)
            assert _answer(api, other, "and me") == "and me"
        else:
            stream.read()
            assert said(waiter.result()) == "and me", "the client that was held gets its answer"
    if SURVIVES_STREAMS[who]:
        assert stream.text == text
        assert stream.done
    _well(api)


@pytest.mark.parametrize("who", ["director", "controller"])
def test_while_a_model_loads(api: Api, switching: Cluster, pair: tuple[str, str], who: str) -> None:
    """The client that is held gets its answer from the next director, through the next
    controller."""
    _, other = pair
    with ThreadPoolExecutor(1) as pool:
        waiter = pool.submit(held, api, other, "and me")
        wait_for(api, other, "loading")
        _kill(switching, who, other)
        assert said(waiter.result()) == "and me"
    assert shown(api, other)["loaded"]
    _well(api)


def _held(api: Api, model: str, text: str) -> httpx.Response:
    """As `held`, also where the answer is not from the API."""
    body = {"model": model, "messages": user(text)}
    return api.client.post(CHAT, json=body, headers={"prefer": "wait=60"})
