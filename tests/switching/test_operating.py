"""What an operator says and sees: load, unload, pins, preloads, keep-alive, events."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import Queue
from threading import Thread
from typing import Any

import httpx
import pytest

from llm_serve.errors import Conflict
from tests.support.client import Api, refused
from tests.support.cluster import Cluster
from tests.support.residents import Residents
from tests.support.streaming import live
from tests.support.switching import ask, held, make_ready, said, shown, wait_for, wait_until_idle
from tests.support.waiting import until
from tests.switching.conftest import ONE, A, B, C, Serve, slow

pytestmark = pytest.mark.ray
PINNED, BRIEF = "echo/pinned", "echo/brief"


@contextmanager
def _events(api: Api) -> Iterator[Queue[dict[str, Any]]]:
    """What `GET /v1/events` says, as it says it."""
    told: Queue[dict[str, Any]] = Queue()
    with (
        httpx.Client(base_url=api.client.base_url, timeout=60) as client,
        client.stream("GET", "/v1/events") as response,
    ):
        assert response.headers["content-type"].startswith("text/event-stream")

        def read() -> None:
            try:
                for line in response.iter_lines():
                    if line.startswith("data: "):
                        told.put(json.loads(line.removeprefix("data: ")))
            except (httpx.HTTPError, httpx.StreamError):
                return

        reader = Thread(target=read, daemon=True)
        reader.start()
        yield told


def _states(told: Queue[dict[str, Any]], model: str, last: str) -> list[str]:
    """The states through which the model went, until it was in the last one."""
    states: list[str] = []
    while not states or states[-1] != last:
        for view in told.get(timeout=30)["models"]:
            if view["id"] == model and (not states or states[-1] != view["status"]):
                states.append(view["status"])
    return states


def test_load_and_unload_and_every_change_is_an_event(cold: Api, residents: Residents) -> None:
    with _events(cold) as told:
        first = told.get(timeout=10)
        assert first["object"] == "event"
        assert {m["id"] for m in first["models"]} == {A, B, C}, "the whole state comes first"
        assert first["server"]["status"] == "ok"

        response = cold.post(f"/v1/models/{A}/load", b"")
        assert response.status_code == 202, response.text
        assert response.json()["model"] == A
        assert _states(told, A, "ready") == ["loading", "ready"]
        again = cold.post(f"/v1/models/{A}/load", b"")
        assert (again.status_code, again.json()["status"]) == (200, "ready")

        response = cold.post(f"/v1/models/{A}/unload", b"")
        assert response.status_code == 202
        assert _states(told, A, "unloaded") == ["draining", "unloaded"]
        assert cold.post(f"/v1/models/{A}/unload", b"").status_code == 202, "it is gone already"
    assert residents.now() == {}


def test_unload_lets_work_in_flight_end(api: Api) -> None:
    text = "word " * 60
    make_ready(api, A)
    with live(api, A, text) as stream:
        stream.read(1)
        assert api.post(f"/v1/models/{A}/unload", b"").status_code == 202
        assert shown(api, A)["status"] == "draining"
        stream.read()
    assert stream.text == text
    assert stream.done
    wait_for(api, A, "unloaded")


def test_unload_of_a_model_that_others_wait_for_is_a_conflict_for_them(cold: Api) -> None:
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(held, cold, A)
        wait_for(cold, A, "loading")
        assert cold.post(f"/v1/models/{A}/unload", b"").status_code == 202
        assert "unloaded" in refused(waiting.result(), Conflict)
    wait_for(cold, A, "unloaded")


def test_pins_preloads_keep_alive_and_the_bound_on_the_line(
    serve: Serve, switching: Cluster
) -> None:
    """Room for two; one place is the pinned model's for ever."""
    models = [
        slow(A, preload=True, keep_alive_s=600),
        slow(PINNED, pin=True),
        slow(BRIEF, keep_alive_s=0.5),
        slow(B),
        slow(C),
    ]
    residency = {**ONE, "max_resident": 2, "max_pending_switches": 1}
    with Residents(switching.child.pid, "operated") as watch:
        api = serve("operated", *models, residency=residency)
        assert shown(api, A)["loaded"], "what is preloaded is up before the server says ok"
        assert shown(api, PINNED)["loaded"]
        assert shown(api, PINNED)["pinned"] is True

        message = refused(api.post(f"/v1/models/{PINNED}/unload", b""), Conflict)
        assert "pinned" in message

        with live(api, A, "word " * 200) as stream:
            stream.read(1)
            assert ask(api, B).status_code == 202
            assert ask(api, B).status_code == 202, "the same model coalesces"
            message = refused(ask(api, C), Conflict)
            assert "1 models already wait" in message
            assert said(held(api, PINNED, "me")) == "me"
            stream.read()
            assert stream.done
        wait_for(api, B, "ready")

        assert said(held(api, BRIEF, "me")) == "me"
        wait_for(api, BRIEF, "unloaded")
        assert shown(api, PINNED)["loaded"]
    assert watch.loads(PINNED) == 1
    assert watch.most() <= 2, watch.history


def test_health_and_the_list_tell_the_truth_in_every_phase(serve: Serve) -> None:
    api = serve("phases", slow(A, load_s=2, preload=True), slow(B, load_s=2))
    with _events(api) as told:
        health = told.get(timeout=10)["server"]
        assert (health["status"], health["model_id"], health["loaded"]) == ("ok", A, True)
        assert (health["switch_in_progress"], health["switch_target_model"]) == (False, None)
        assert ask(api, B).status_code == 202
        wait_for(api, B, "ready")
        wait_until_idle(api)
        seen = []
        while not seen or seen[-1][1] != "ok":
            event = told.get(timeout=10)
            server = event["server"]
            seen.append((server["switch_target_model"], server["status"]))
            for view in event["models"]:
                assert view["loaded"] == (view["status"] == "ready")
    assert {target for target, status in seen if status == "switching"} == {B}
    health = api.health()
    assert (health["loaded"], health["inference_backend"]) == (False, "echo")
    listed = {m["id"]: m["status"] for m in api.get("/v1/models").json()["data"]}
    assert listed == {A: "unloaded", B: "ready"}


def test_starting_until_the_preloaded_model_is_up(switching: Cluster) -> None:
    config = {"models": [slow(B, load_s=5, preload=True)], "residency": ONE}
    url = switching.deploy("early", config, wait=False)
    with httpx.Client(base_url=url, timeout=60) as client:
        early = Api(client)
        health = early.health()
        assert (health["status"], health["loaded"]) == ("starting", False)
        assert ask(early, B).status_code == 202
        until(lambda: early.health()["status"] == "ok", "it is up")
        assert early.health()["loaded"] is True
    switching.delete("early")
