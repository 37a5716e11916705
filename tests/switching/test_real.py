"""The real small model under several ids, in two dtypes and two engines, talking and embedding, and
room for one."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from openai import OpenAI

from llm_serve.config import default_config
from llm_serve.errors import LoadFailed, UnsupportedParameter
from tests.support.client import Api, refused
from tests.support.cluster import Cluster
from tests.support.residents import Residents
from tests.support.streaming import live
from tests.support.switching import ask, held, make_ready, said, shown, wait_for, wait_until_idle
from tests.support.tensorrt import environment
from tests.support.waiting import until

pytestmark = [pytest.mark.ray, pytest.mark.model]
FULL, HALF, GONE, TENSORRT = "small/full", "small/half", "small/gone", "small/tensorrt"
EMBEDS = "small/embeds"
ONE_WORD = {"max_tokens": 8, "temperature": 0}


def _entry(model: str, dtype: str, **fields: Any) -> dict[str, Any]:
    default = default_config().default_model.model_dump(mode="json", exclude_unset=True)
    engine = {"dtype": dtype, "threads": 2}
    return {**default, "id": model, "engine": engine, "preload": False, **fields}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    config = {
        "models": [
            _entry(FULL, "float32"),
            _entry(HALF, "bfloat16"),
            _entry(EMBEDS, "float32", kind="embedding"),
            _entry(GONE, "float32", source="/no/such/folder"),
            {**_entry(TENSORRT, "float32"), "backend": "tensorrt_llm", "env": environment()}
            | {"engine": {"dtype": "float32"}},
        ],
        "residency": {"max_resident": 1, "min_residency_s": 0.5, "max_wait_s": 5},
    }
    with Cluster(config) as cluster:
        yield cluster


@pytest.fixture
def real(cluster: Cluster) -> Iterator[Api]:
    with Residents.alone(cluster, timeout_s=120) as api:
        yield api


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
def test_curl_gets_the_202_of_the_guide_and_then_its_answer(real: Api) -> None:
    """Section 5 of the guide, step by step."""
    make_ready(real, FULL)
    body = {"model": HALF, "messages": [{"role": "user", "content": "Say hello"}], **ONE_WORD}
    command = [
        "curl", "-s", "-w", "\n%{http_code} %header{retry-after}",
        f"{real.client.base_url}/v1/chat/completions",
        "-H", "Content-Type: application/json", "-d", json.dumps(body),
    ]  # fmt: skip

    def curl() -> tuple[dict[str, Any], str, str]:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
        answer, _, last = done.stdout.rpartition("\n")
        status, _, retry_after = last.partition(" ")
        return json.loads(answer), status, retry_after

    told, status, retry_after = curl()
    assert status == "202"
    assert (told["object"], told["status"]) == ("model.load", "spinning_up")
    assert (told["model"], told["current_model"]) == (HALF, FULL)
    assert retry_after == str(told["retry_after_seconds"])
    assert "eta_seconds" in told
    for _ in range(30):
        time.sleep(told["retry_after_seconds"])
        told, status, _ = curl()
        if status != "202":
            break
    assert status == "200", told
    assert told["choices"][0]["message"]["content"].strip()
    assert told["model"] == HALF


def test_the_openai_sdk_gets_its_answer_from_each_by_turns(real: Api) -> None:
    with OpenAI(base_url=f"{real.client.base_url}/v1", api_key="x") as client:
        for model in (FULL, HALF, TENSORRT):
            answer = client.chat.completions.create(
                model=model, messages=[{"role": "user", "content": "Say hello"}], **ONE_WORD
            )
            assert (answer.choices[0].message.content or "").strip()
            view = shown(real, model)
            assert view["loaded"]
            assert view["dtype"] == {HALF: "bfloat16"}.get(model, "float32")


def test_a_stream_ends_whole_while_the_other_is_asked_for(real: Api) -> None:
    """Greedy, so that the stream can be compared with the undisturbed answer."""
    fields = {"max_tokens": 200, "temperature": 0}
    question = "Count from one to fifty in words."
    make_ready(real, FULL)
    whole = said(held(real, FULL, question, **fields))
    with live(real, FULL, question, **fields) as stream, ThreadPoolExecutor(1) as pool:
        stream.read(1)
        other = pool.submit(held, real, HALF, "Say hello", **ONE_WORD)
        stream.read()
        assert said(other.result()).strip()
    assert stream.error is None
    assert stream.done
    assert stream.text == whole


def test_an_embedding_model_and_a_chat_model_take_turns(real: Api) -> None:
    texts = ["A cat sat on the mat.", "The kitten is sitting on a rug.", "Interest rates rose."]
    with OpenAI(base_url=f"{real.client.base_url}/v1", api_key="x") as client:

        def embed(**fields: Any) -> list[list[float]]:
            answer = client.embeddings.create(model=EMBEDS, input=texts, **fields)
            assert [one.index for one in answer.data] == [0, 1, 2]
            assert answer.usage.prompt_tokens == answer.usage.total_tokens > 12
            return [one.embedding for one in answer.data]

        by_bytes = embed()  # the SDK asks for base64 by itself
        view = shown(real, EMBEDS)
        assert view["loaded"]
        assert (view["capabilities"]["embeddings"], view["capabilities"]["chat"]) == (True, False)
        assert view["engine_details"]["pooling"] == "lasttoken"
        assert {len(vector) for vector in by_bytes} == {576}
        answer = client.chat.completions.create(
            model=FULL, messages=[{"role": "user", "content": "Say hello"}], **ONE_WORD
        )
        assert (answer.choices[0].message.content or "").strip()
        assert not shown(real, EMBEDS)["loaded"]
        by_number = embed(encoding_format="float")
        assert not shown(real, FULL)["loaded"]
        for one, other in zip(by_bytes, by_number, strict=True):
            assert one == pytest.approx(other, abs=1e-4)
        assert [len(vector) for vector in embed(dimensions=8)] == [8, 8, 8]


def test_a_request_for_the_wrong_kind_loads_nothing(real: Api) -> None:
    """The ingress knows what its configuration and the files that are here say."""
    make_ready(real, FULL)
    asked = {"input": "a", "model": HALF}
    assert "kind: embedding" in refused(
        real.post("/v1/embeddings", asked), UnsupportedParameter, "model"
    )
    assert "/v1/embeddings" in refused(ask(real, EMBEDS), UnsupportedParameter, "model")
    assert shown(real, FULL)["loaded"]
    assert {shown(real, model)["status"] for model in (HALF, EMBEDS)} <= {"unloaded", "draining"}


def test_a_stream_ends_whole_while_embeddings_wait(real: Api) -> None:
    question = "Count from one to fifty in words."
    make_ready(real, FULL)
    with live(real, FULL, question, max_tokens=100, temperature=0) as stream:
        stream.read(1)
        with ThreadPoolExecutor(1) as pool:
            asked = {"model": EMBEDS, "input": ["a word"] * 300}
            waiting = pool.submit(real.post, "/v1/embeddings", asked, headers={"prefer": "wait=60"})
            stream.read()
            assert len(waiting.result().json()["data"]) == 300
    assert stream.done
    assert stream.error is None


def test_a_broken_path_is_told_and_the_other_models_serve_on(real: Api) -> None:
    make_ready(real, FULL)
    message = refused(held(real, GONE), LoadFailed)
    assert "does not exist" in message
    until(lambda: real.health()["status"] == "degraded", "its process is gone", seconds=30)
    assert GONE in real.health()["failed_models"]
    assert refused(ask(real, GONE), LoadFailed), "it cools down"
    assert said(held(real, FULL, "Say hello", **ONE_WORD)).strip()


def test_the_eta_is_what_a_load_took(real: Api) -> None:
    make_ready(real, FULL)
    make_ready(real, HALF)
    wait_until_idle(real)
    began = time.monotonic()
    eta = ask(real, FULL).json()["eta_seconds"]
    wait_for(real, FULL, "ready", seconds=60)
    took = time.monotonic() - began
    assert 0 < eta < 3 * took + 5
