"""Two ingresses share one truth, and a ready model needs nobody else."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress

import httpx
import psutil
import pytest

from llm_serve.errors import NotReady
from tests.support.client import CHAT, RESPONSES, Api, refused, user
from tests.support.cluster import Cluster
from tests.support.residents import Residents
from tests.support.streaming import live
from tests.support.switching import (
    ask,
    held,
    make_cold,
    make_ready,
    said,
    shown,
    wait_for,
    wait_until_idle,
)
from tests.support.waiting import until
from tests.switching.conftest import A, B, Serve, slow

pytestmark = pytest.mark.ray


def _http_port(process: psutil.Process) -> int:
    """The port on which an ingress replica takes requests from HAProxy."""

    def found() -> int | None:
        ports = {c.laddr.port for c in process.net_connections() if c.status == "LISTEN"}
        return next((port for port in ports if 30000 <= port < 31000), None)

    return until(found, "it listens") or 0


@contextmanager
def _each_ingress(cluster: Cluster, app: str) -> Iterator[list[Api]]:
    """An Api for each ingress replica of its own, past HAProxy."""
    processes = cluster.processes(f"ray::ServeReplica:{app}:Ingress")
    # A connection each: a server may close one that rests in the moment in which it is used again.
    anew = httpx.Limits(max_keepalive_connections=0)
    with ExitStack() as stack:
        yield [
            Api(stack.enter_context(httpx.Client(base_url=url, timeout=60, limits=anew)))
            for url in (f"http://127.0.0.1:{_http_port(process)}/{app}" for process in processes)
        ]


@contextmanager
def _paused(processes: list[psutil.Process]) -> Iterator[None]:
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            process.send_signal(signal.SIGCONT)


def test_two_ingresses_share_one_truth(serve: Serve, switching: Cluster) -> None:
    """Each sees at once what was asked of the other; work on one holds off the drain of both."""
    api = serve("two", slow(A), slow(B), server={"ingress_replicas": 2})
    pid = switching.child.pid
    with Residents(pid, "two") as watch, _each_ingress(switching, "two") as ingresses:
        assert len(ingresses) == 2
        one, two = ingresses
        make_ready(one, A)
        until(lambda: shown(two, A)["loaded"], "the other one knows", seconds=2)
        assert said(ask(two, A, "me", "respond-async")) == "me"
        stored = one.respond("remember", model=A).json()
        assert two.get(f"{RESPONSES}/{stored['id']}").json() == stored
        assert two.respond("go on", model=A, previous_response_id=stored["id"]).status_code == 200

        # A streams through one; B is asked for through the other.
        text = "word " * 200
        with ThreadPoolExecutor(8) as pool, live(one, A, text) as stream:
            stream.read(1)
            waiting = [pool.submit(held, two, B, f"held {n}") for n in range(4)]
            waiting += [pool.submit(held, one, B, f"held {n}") for n in range(4, 8)]
            for ingress in ingresses:
                wait_for(ingress, A, "draining", seconds=30)

                def whole(ingress: Api = ingress) -> bool:
                    health = ingress.health()
                    return (health["running"], health["queue_depth"]) == (1, 8)

                until(whole, "each shows what both have", seconds=3)
            stream.read()
            assert stream.text == text
            assert stream.done
            assert [said(w.result()) for w in waiting] == [f"held {n}" for n in range(8)]
        assert watch.loads(B) == 1, "the two coalesce"
        for ingress in ingresses:
            until(lambda i=ingress: shown(i, B)["loaded"], "B is up", seconds=2)
            assert shown(ingress, A)["loaded"] is False

        # One of them dies: the other goes on, and HAProxy finds it.
        switching.processes("ray::ServeReplica:two:Ingress")[0].kill()

        def answered() -> bool:
            body = {"model": B, "messages": user("me")}
            try:  # until HAProxy has its new list, an answer may be its own
                return bool(api.client.post(CHAT, json=body).status_code == 200)
            except httpx.TransportError:
                return False

        until(answered, "the other ingress answers", seconds=10)
        # On a new connection: HAProxy takes its new list in a new process, and the old one closes
        # the connections that rest.
        with httpx.Client(base_url=api.client.base_url, timeout=60) as client:
            assert said(held(Api(client), A, "and back")) == "and back"
    assert watch.most() == 1, watch.overlaps()


def test_a_ready_model_costs_no_call_to_the_director(api: Api, switching: Cluster) -> None:
    """With every director stopped: the ready model is served and shown; what needs a decision
    waits for it, and gets it."""
    make_ready(api, A)
    wait_until_idle(api)
    directors = switching.processes("ray::Director")
    assert directors
    with ThreadPoolExecutor(1) as pool:
        with _paused(directors):
            for number in range(20):
                text = f"number {number}"
                assert said(ask(api, A, text, "respond-async")) == text
            with live(api, A, "word " * 30) as stream:
                stream.read()
            assert stream.done
            assert api.health()["status"] == "ok"
            waiting = pool.submit(held, api, B, "me")
            assert said(ask(api, A, "still")) == "still"
            assert not waiting.done()
        assert said(waiting.result()) == "me"


def test_a_director_that_hangs_keeps_nobody_waiting_and_is_ended(
    api: Api, switching: Cluster
) -> None:
    """Stopped for good: who is not held hears in time, who is held when the hold is over, and Ray
    starts another, which knows what runs."""
    make_ready(api, A)
    make_cold(api, B)
    wait_until_idle(api)
    stopped = switching.processes("ray::Director")
    for process in stopped:
        process.suspend()
    try:
        with ThreadPoolExecutor(2) as pool:
            began = time.monotonic()
            asked = pool.submit(ask, api, B, "me", "respond-async")
            waiting = pool.submit(ask, api, B, "me", "wait=1")
            told = asked.result()
            assert told.status_code == 202
            assert told.json()["eta_seconds"] is None
            refused(waiting.result(), NotReady)
            refused(api.post(f"/v1/models/{B}/load", b""), NotReady)
            assert time.monotonic() - began < 15
        assert said(ask(api, A, "me", "respond-async")) == "me"
        # A director of another test's application has no ingress any more that would miss it.
        until(lambda: not all(p.is_running() for p in stopped), "it is ended", seconds=60)
        assert said(held(api, B, "back")) == "back"
    finally:
        for process in stopped:
            with suppress(psutil.NoSuchProcess):
                process.resume()
