"""A vLLM model among others on real Ray: room for one, so that each must leave for the other."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from llm_serve.config import default_config
from llm_serve.errors import EngineDied, LoadFailed
from tests.support.client import CHAT, Api, refused, user
from tests.support.cluster import Cluster
from tests.support.residents import Residents
from tests.support.streaming import live
from tests.support.switching import held, make_ready, said, wait_until_idle
from tests.support.waiting import until
from tests.vllm.test_requests import FORCED, WEATHER

pytestmark = [pytest.mark.ray, pytest.mark.vllm]
TORCH, VLLM, CRAMPED = "small/transformers", "small/vllm", "small/cramped"
ENGINE = {
    "dtype": "float32",
    "enforce_eager": True,
    "kv_cache_memory_bytes": 512 * 2**20,
    "tool_call_parser": "hermes",
}
GREEDY: dict[str, Any] = {"max_tokens": 16, "temperature": 0}
RECOVERY_S = 120.0
_SPAWNED = "from multiprocessing.spawn"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    default = default_config().default_model.model_dump(mode="json", exclude_unset=True)
    cramped = {**ENGINE, "kv_cache_memory_bytes": 2**20}
    models = [
        {**default, "id": TORCH, "engine": {"dtype": "float32"}, "preload": True},
        {**default, "id": VLLM, "backend": "vllm", "engine": ENGINE, "preload": False},
        {**default, "id": CRAMPED, "backend": "vllm", "engine": cramped, "preload": False},
    ]
    # Whatever else the machine's memory is taken by, one of them fits.
    residency = {"max_resident": 1, "memory_gb": 16}
    with Cluster({"models": models, "residency": residency}) as cluster:
        yield cluster


@pytest.fixture
def both(cluster: Cluster) -> Iterator[Api]:
    with Residents.alone(cluster, timeout_s=240) as api:
        yield api


def engines(cluster: Cluster) -> list[psutil.Process]:
    """vLLM's own processes, beside which are workers that hold the weights; by the title that they
    give themselves, or by how they were started where they have none."""
    started = [p for p in cluster.processes(sys.executable) if _SPAWNED in " ".join(p.cmdline())]
    pids = {process.pid for process in started}
    untitled = [process for process in started if process.ppid() not in pids]
    return cluster.processes("VLLM::EngineCore") or untitled


def engine_of(cluster: Cluster) -> psutil.Process:
    """The one that runs."""
    (engine,) = until(lambda: engines(cluster), "there is an engine", seconds=10) or []
    return engine


def answers(api: Api, model: str) -> None:
    """Asks until there is an answer: what comes before is an honest error, nothing else."""

    def answered() -> bool:
        response = held(api, model, **GREEDY)
        assert response.status_code in (200, 502, 503), response.text
        return response.status_code == 200

    until(answered, f"{model} answers", seconds=RECOVERY_S)


def test_backends_take_turns(both: Api, cluster: Cluster) -> None:
    """There and back: every route of the engine waits for the same load, both backends say the
    same, a stream ends whole before its engine leaves, and the cores that the engine computes on
    are its own for as long."""
    make_ready(both, TORCH)
    wait_until_idle(both)
    question = "Count from one to fifty in words."
    long = {"max_tokens": 100, "temperature": 0}
    by_torch = said(held(both, TORCH, question, **long))
    assert not engines(cluster)

    body = {"model": VLLM, "input": "Say hello.", "max_output_tokens": 4}
    told = both.client.post("/v1/responses", json=body, headers={"prefer": "respond-async"})
    assert told.status_code == 202, told.text
    assert told.json()["model"] == VLLM
    forced = {"tools": [WEATHER], "tool_choice": FORCED, "max_tokens": 64, "temperature": 0}
    with ThreadPoolExecutor(3) as pool:
        by_vllm = pool.submit(held, both, VLLM, question, **long)
        tool = pool.submit(held, both, VLLM, "What is the weather in Oslo?", **forced)
        response = pool.submit(
            both.client.post, "/v1/responses", json=body, headers={"prefer": "wait=120"}
        )
    assert said(by_vllm.result()) == by_torch
    (call,) = tool.result().json()["choices"][0]["message"]["tool_calls"]
    assert json.loads(call["function"]["arguments"])["city"] in ("Oslo", "Paris")
    assert response.result().json()["object"] == "response"
    (ingress,) = cluster.replicas("Ingress")
    everywhere = set(psutil.Process().cpu_affinity() or ())
    worker = max(engine_of(cluster).children(), key=lambda process: process.memory_info().rss)
    spared = everywhere - set(worker.cpu_affinity() or ())
    if 4 * len(spared) >= len(everywhere):
        until(lambda: set(ingress.cpu_affinity() or ()) == spared, "the ingress makes room")
        until(lambda: os.sched_getscheduler(ingress.pid) == os.SCHED_BATCH, "it lets vLLM go first")
    assert list(Path(worker.environ()["TMPDIR"]).glob("vllm_dist_*")), "it goes with the server"

    with live(both, VLLM, question, **long) as stream, ThreadPoolExecutor(1) as pool:
        stream.read(1)
        other = pool.submit(held, both, TORCH, "Say hello", **GREEDY)
        stream.read()
        assert said(other.result())
    assert (stream.error, stream.done, stream.text) == (None, True, by_torch)
    assert not engines(cluster), "the engine leaves with its replica"
    until(lambda: set(ingress.cpu_affinity() or ()) == everywhere, "no core is anyone's own")
    until(lambda: os.sched_getscheduler(ingress.pid) == os.SCHED_OTHER, "nobody goes first")


def test_an_engine_that_is_killed_is_told_and_comes_back(both: Api, cluster: Cluster) -> None:
    """To those whose answers are rendered here, and to those of the engine's own server; and no
    engine outlives a replica that is killed."""
    make_ready(both, VLLM)
    wait_until_idle(both)
    ours: dict[str, Any] = {"max_tokens": 4000, "ignore_eos": True}
    theirs = {**ours, "min_tokens": 4000}
    engine = engine_of(cluster)
    with (
        live(both, VLLM, "A story.", **ours) as first,
        live(both, VLLM, "A story.", **theirs) as second,
        ThreadPoolExecutor(2) as pool,
    ):
        whole = [
            pool.submit(both.post, CHAT, {"model": VLLM, "messages": user("A story."), **fields})
            for fields in (ours, theirs)
        ]
        first.read(3)
        second.read(3)
        until(lambda: both.health()["running"] == 4, "all run")
        engine.kill()
        first.read()
        second.read()
        for answer in whole:
            refused(answer.result(), EngineDied, None)
    for stream in (first, second):
        assert stream.error is not None
        assert stream.error["code"] == EngineDied.code
    answers(both, VLLM)
    successor = engine_of(cluster)
    assert successor.pid != engine.pid

    psutil.Process(successor.ppid()).kill()
    until(lambda: not successor.is_running(), "the engine is gone as well", seconds=10)
    assert said(held(both, TORCH, **GREEDY))


def test_what_only_the_engines_process_finds_out_is_told(both: Api) -> None:
    message = refused(held(both, CRAMPED), LoadFailed)
    assert "available KV cache memory" in message or "No available memory" in message
    assert "/root" not in message
    assert said(held(both, TORCH, **GREEDY))
