"""kill -9 of everything, at every bad moment: the rules hold, and all recovers by itself (rule 9).

Who is killed: a model's replica, the director, the ingress, the Serve controller.
When: at rest, in the middle of a stream, in the middle of a switch with a client that is held.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import httpx
import psutil
import pytest

from deployments.schema import APPLICATION
from tests.support.client import Api
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
    if who == "model":
        name = model.replace("/", "%2F")
        victims = cluster.replicas(f"Model.{name}") + cluster.processes(
            f"ray::SERVE_REPLICA::{APPLICATION}#Model.{name}"
        )
    elif who == "ingress":
        victims = cluster.replicas("Ingress")
    else:
        victims = cluster.processes({"director": "ray::Director", "controller": "ray::ServeC"}[who])
    assert victims, f"no {who} to kill"
    for victim in victims:
        victim.kill()
    gone, alive = psutil.wait_procs(victims, timeout=10)
    assert not alive


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


def _recovers(api: Api) -> None:
    """Both models answer by turns, and the server says that it is well."""

    def ok() -> bool:
        try:
            return bool(api.health()["status"] == "ok")
        except httpx.TransportError:
            return False

    for model in (A, B, A):
        assert _answer(api, model, f"hello {model}") == f"hello {model}"
    until(ok, "the server is ok", seconds=RECOVERY_S)


@pytest.mark.parametrize("who", WHO)
def test_at_rest(api: Api, switching: Cluster, residents: Residents, who: str) -> None:
    make_ready(api, A)
    wait_until_idle(api)
    _kill(switching, who, A)
    if who in ("director", "controller"):
        for _ in range(5):
            response = ask(api, A, "still here", "respond-async")
            assert said(response) == "still here", "a ready model needs neither"
    _recovers(api)


@pytest.mark.parametrize("who", WHO)
def test_in_the_middle_of_a_stream(
    api: Api, switching: Cluster, residents: Residents, who: str
) -> None:
    text = "word " * 150
    make_ready(api, A)
    with live(api, A, text) as stream:
        stream.read(1)
        _kill(switching, who, A)
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
    _recovers(api)


@pytest.mark.parametrize("who", WHO)
def test_in_the_middle_of_a_switch(
    api: Api, switching: Cluster, residents: Residents, who: str
) -> None:
    """A streams, B is asked for by a client that is held, and A is told to leave."""
    text = "word " * 300
    make_ready(api, A)
    with ThreadPoolExecutor(1) as pool, live(api, A, text) as stream:
        stream.read(1)
        other: Future[httpx.Response] = pool.submit(held, api, B, "and me")
        wait_for(api, B, "queued", "draining", "loading")
        wait_for(api, A, "draining", seconds=30)
        _kill(switching, who, A)
        if who == "ingress":
            with pytest.raises(httpx.TransportError):
                stream.read()
            with pytest.raises(httpx.TransportError):
                other.result()
        else:
            stream.read()
            assert said(other.result()) == "and me", "the client that was held gets its answer"
    if SURVIVES_STREAMS[who]:
        assert stream.text == text
        assert stream.done
    _recovers(api)


@pytest.mark.parametrize("who", ["director", "controller"])
def test_while_a_model_loads(api: Api, switching: Cluster, residents: Residents, who: str) -> None:
    """The client that is held gets its answer, from the next director or through the next
    controller."""
    make_ready(api, A)
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(held, api, B, "and me")
        wait_for(api, B, "loading")
        _kill(switching, who, B)
        assert said(other.result()) == "and me"
    assert shown(api, B)["loaded"]
    _recovers(api)
