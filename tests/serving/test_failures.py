"""Engines that fail, die or never load, and a director that is killed: told truly, soon over."""

from __future__ import annotations

import time
from typing import Any

import httpx
import psutil
import pytest

from llm_serve.errors import EngineDied, InternalError, LoadFailed
from tests.support.client import Api, refused
from tests.support.cluster import Cluster
from tests.support.inprocess import echo
from tests.support.streaming import live
from tests.support.waiting import until

pytestmark = pytest.mark.ray
DIRECTOR_LEARNS_S = 5.0
"""A new director has heard from everyone by then: a report is due every two seconds."""


def test_a_failure_is_a_json_500_or_an_error_frame(server: Api) -> None:
    refused(server.chat("a b c d e", model="echo/fails"), InternalError)
    stream = server.chat_stream("a b c d e", model="echo/fails")
    assert stream.text() == "a b c "
    assert stream.error is not None
    assert (stream.error["code"], stream.done) == ("internal_error", False)
    assert server.chat("a b", model="echo/fails").status_code == 200


def _answers_again(api: Api, model: str) -> None:
    def answered() -> bool:
        response = api.chat("a b", model=model)
        assert response.status_code in (200, 202, 502, 503), response.text
        return response.status_code == 200

    until(answered, f"{model} answers again", seconds=40, every=0.2)
    until(lambda: api.health()["status"] == "ok", "the server is ok again", seconds=20)


def test_an_engine_that_dies_is_a_502_and_comes_back_by_itself(idle: Api, cluster: Cluster) -> None:
    before = {p.pid for p in cluster.replicas("Model.echo~2Fexits-1")}
    refused(idle.chat("a b c d e", model="echo/exits-1"), EngineDied)
    assert idle.chat("hi", model="echo/fast").status_code == 200
    _answers_again(idle, "echo/exits-1")
    after = {p.pid for p in cluster.replicas("Model.echo~2Fexits-1")}
    assert before
    assert not before & after

    stream = idle.chat_stream("a b c d e", model="echo/exits-2")
    assert stream.text().startswith("a b")
    assert stream.error is not None
    assert (stream.error["code"], stream.done) == ("engine_died", False)
    _answers_again(idle, "echo/exits-2")


@pytest.mark.alone
def test_a_dead_engine_is_not_shown_as_ready(idle: Api, cluster: Cluster) -> None:
    with live(idle, "echo/slow", "a " * 2000) as stream:
        stream.read(1)
        (replica,) = cluster.replicas("Model.echo~2Fslow")
        replica.kill()
        stream.read()
    assert stream.error is not None
    assert stream.error["code"] == "engine_died"

    def shown() -> dict[str, Any]:
        view: dict[str, Any] = idle.get("/v1/models/echo/slow").json()
        return view

    # A look at the processes comes once a second, and Ray may take two to say why one has ended.
    until(lambda: not shown()["loaded"], "the model is not shown as loaded", seconds=4)
    assert idle.health()["status"] != "ok"
    assert idle.health()["loaded"] is True, "this is about the default model"
    _answers_again(idle, "echo/slow")
    assert shown()["status"] == "ready"


def test_while_a_model_loads_and_after_it_failed(cluster: Cluster) -> None:
    models = [
        echo("echo/late", load_s=6, preload=True),
        echo("echo/bad", load_s=4, load_error="The file is damaged; pull it again.", preload=True),
    ]
    url = cluster.deploy("cold", {"models": models}, wait=False)
    with httpx.Client(base_url=url, timeout=60) as client:
        api = Api(client)
        health = api.health()
        assert (health["status"], health["loaded"]) == ("starting", False)
        response = api.chat("hi")
        assert response.status_code == 202, response.text
        told = response.json()
        assert {k: told[k] for k in ("object", "status", "model", "current_model")} == {
            "object": "model.load",
            "status": "spinning_up",
            "model": "echo/late",
            "current_model": None,
        }
        assert response.headers["retry-after"] == str(told["retry_after_seconds"])
        until(lambda: api.get("/v1/models/echo/late").json().get("load_progress"), "it progresses")
        assert api.health()["load_stage"] == "weights"
        listed = {m["id"]: m for m in api.get("/v1/models").json()["data"]}
        assert listed["echo/late"]["status"] == "loading"
        assert listed["echo/late"]["loaded"] is False

        until(lambda: "failed_models" in api.health(), "echo/bad has failed")
        failed = api.chat("hi", model="echo/bad")
        assert "The file is damaged; pull it again." in refused(failed, LoadFailed)
        assert 1 <= int(failed.headers["retry-after"]) <= 60
        bad = api.get("/v1/models/echo/bad").json()
        assert (bad["status"], bad["loaded"]) == ("failed", False)
        assert bad["last_error"] == "The file is damaged; pull it again."

        until(lambda: api.chat("hi").status_code == 200, "echo/late answers")
        health = api.health()
        assert (health["status"], health["loaded"]) == ("degraded", True)
        assert health["failed_models"] == ["echo/bad"]
        assert api.get("/v1/models/echo/late").json()["status"] == "ready"
    cluster.delete("cold")


def test_the_director_may_be_killed(idle: Api, cluster: Cluster) -> None:
    """Serving goes on while it is away and while the next one learns what runs (rule 9)."""
    directors = cluster.processes("ray::Director")  # one for each application
    assert directors

    def replaced() -> bool:
        now = {p.pid for p in cluster.processes("ray::Director")}
        return bool(now) and not now & {director.pid for director in directors}

    with live(idle, "echo/slow", "a " * 60) as stream:
        stream.read(1)
        for director in directors:
            director.kill()
        psutil.wait_procs(directors, timeout=10)
        deadline = time.monotonic() + 60
        calm_since: float | None = None
        while calm_since is None or time.monotonic() < calm_since + DIRECTOR_LEARNS_S:
            assert time.monotonic() < deadline, "there is no new director"
            answer = idle.chat("hi", model="echo/fast")
            assert answer.status_code == 200, answer.text
            assert idle.health()["loaded"] is True
            if calm_since is None and replaced():
                calm_since = time.monotonic()
        stream.read()
        assert stream.done
        assert stream.text == "a " * 60

    # Only through the new director can the ingress learn that a model has come back.
    refused(idle.chat("a b c d e", model="echo/exits-3"), EngineDied)
    until(
        lambda: not idle.get("/v1/models/echo/exits-3").json()["loaded"],
        "the new director hears that the model is gone",
        seconds=10,
    )
    _answers_again(idle, "echo/exits-3")
