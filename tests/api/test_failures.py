"""What goes wrong behind the routes, and what the client is told. Ray's part: tests/serving."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from llm_serve.errors import (
    InferenceTimeout,
    InternalError,
    LoadFailed,
    PromptTooLong,
    QueueFull,
    ServeError,
    UnsupportedParameter,
)
from llm_serve.generation.render import OpenAIRenderer
from llm_serve.generation.request import GenerationRequest
from llm_serve.sampling import Delta
from tests.support.client import Api, refused
from tests.support.errors import every_error
from tests.support.inprocess import echo, serving
from tests.support.local_gateway import LocalGateway
from tests.support.waiting import until


def test_a_prompt_that_leaves_no_room_is_refused_by_its_field() -> None:
    with serving(echo(context_length=16)) as api:
        assert api.chat("x " * 15).json()["usage"]["completion_tokens"] == 1
        message = refused(api.chat("x " * 16), PromptTooLong, "messages")
        assert "16" in message
        refused(api.complete("x " * 16), PromptTooLong, "prompt")
        refused(api.complete(["x", "x " * 16]), PromptTooLong, "prompt")
        refused(api.chat("x " * 16, stream=True), PromptTooLong, "messages")
        refused(api.chat("x " * 16, stream=True, n=3), PromptTooLong, "messages")
        assert api.health()["running"] == 0


@pytest.fixture(scope="module")
def failing() -> Iterator[Api]:
    models = (echo("echo/first", fail_after_tokens=0), echo("echo/third", fail_after_tokens=3))
    with serving(*models) as api:
        yield api


@pytest.mark.parametrize("n", [1, 3])
def test_a_failure_before_the_first_byte_is_json(failing: Api, n: int) -> None:
    refused(failing.chat("a b c d e", model="echo/first", n=n), InternalError)
    refused(failing.chat("a b c d e", model="echo/first", n=n, stream=True), InternalError)
    refused(failing.chat("a b c d e", model="echo/third", n=n), InternalError)


@pytest.mark.parametrize("n", [1, 3])
def test_a_failure_in_a_stream_is_an_error_frame_and_the_end(failing: Api, n: int) -> None:
    stream = failing.chat_stream("a b c d e", model="echo/third", n=n)
    assert stream.text() == "a b c "
    assert stream.error is not None
    assert stream.error["code"] == "internal_error"
    assert not stream.done


@pytest.fixture(scope="module")
def hasty() -> Iterator[Api]:
    models = (echo("echo/stuck", first_token_s=3600), echo("echo/slow", token_s=0.05))
    with serving(*models, inference_timeout_s=0.2) as api:
        yield api


def test_a_timeout_before_the_first_byte_is_a_json_504(hasty: Api) -> None:
    message = refused(hasty.chat("a", model="echo/stuck"), InferenceTimeout)
    assert "0.2 s" in message
    refused(hasty.chat("a", model="echo/stuck", stream=True), InferenceTimeout)
    refused(hasty.chat("a " * 100, model="echo/slow"), InferenceTimeout)


def test_a_timeout_in_a_stream_is_an_error_frame(hasty: Api) -> None:
    stream = hasty.chat_stream("a " * 100, model="echo/slow")
    assert stream.text().startswith("a ")
    assert stream.error is not None
    assert stream.error["code"] == "inference_timeout"


def test_a_model_that_could_not_be_loaded_says_why_and_the_others_serve() -> None:
    with serving(echo("echo/good"), echo("echo/bad", load_error="The file is empty.")) as api:
        message = refused(api.chat("a", model="echo/bad"), LoadFailed)
        assert "The file is empty." in message
        assert api.chat("a", model="echo/good").status_code == 200
        assert api.health()["status"] == "degraded"
        assert api.health()["failed_models"] == ["echo/bad"]
        bad = api.get("/v1/models/echo/bad").json()
        assert (bad["status"], bad["loaded"]) == ("failed", False)
        assert bad["last_error"] == "The file is empty."


def test_past_running_and_queued_requests_are_refused() -> None:
    with (
        serving(echo(first_token_s=0.5, max_running=1, max_queued=1)) as api,
        ThreadPoolExecutor(8) as pool,
    ):
        answers = [f.result() for f in [pool.submit(api.chat, "a") for _ in range(8)]]
        assert sorted(a.status_code for a in answers) == [200] * 2 + [429] * 6
        refused(next(a for a in answers if a.status_code == 429), QueueFull)
        assert api.chat("a").status_code == 200


class Raising(LocalGateway):
    """A gateway that raises what it is told, after so many messages."""

    error: BaseException
    after = 0

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[bytes, None]:
        renderer = OpenAIRenderer(request, 1, 1)
        for _ in range(self.after):
            yield renderer.chunk(0, Delta("a ", 1))
        raise self.error


@pytest.fixture
def raising(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Api, type[Raising]]]:
    monkeypatch.setattr("tests.support.inprocess.LocalGateway", Raising)
    with serving() as api:
        yield api, Raising


@pytest.mark.parametrize("kind", every_error(), ids=lambda kind: kind.__name__)
def test_every_error_is_rendered_with_its_status(
    raising: tuple[Api, type[Raising]], kind: type[ServeError]
) -> None:
    api, gateway = raising
    waits = 7 if kind.status in (429, 503) else None
    gateway.error, gateway.after = kind("A sentence.", param="x", retry_after_s=waits), 0
    for stream in (False, True):
        response = api.chat(stream=stream)
        assert refused(response, kind, "x") == "A sentence."
        assert response.headers.get("retry-after") == (None if waits is None else "7")
    gateway.after = 2
    assert api.chat_stream().error == {
        **{"message": "A sentence.", "type": kind.type, "param": "x", "code": kind.code}
    }


@pytest.mark.parametrize("error", [RuntimeError("/secret/path"), TimeoutError("x"), KeyError("x")])
def test_a_defect_is_a_500_without_its_inside(
    raising: tuple[Api, type[Raising]], error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    api, gateway = raising
    gateway.error, gateway.after = error, 0
    with caplog.at_level(logging.CRITICAL):
        response = api.chat()
        message = refused(response, InternalError)
        assert "secret" not in message
        assert response.headers["x-request-id"] in message
        gateway.after = 2
        stream = api.chat_stream()
    assert stream.error is not None
    assert stream.error["code"] == "internal_error"
    assert stream.response.headers["x-request-id"] in stream.error["message"]


def test_retry_after_stays_within_what_clients_obey() -> None:
    assert QueueFull("x", retry_after_s=0).retry_after_s == 1
    assert QueueFull("x", retry_after_s=10**9).retry_after_s == 60


def test_unsupported_is_told_with_the_way_out(api: Api) -> None:
    message = refused(api.chat(top_k=3), UnsupportedParameter, "top_k")
    assert "leave it out" in message
    assert "GET /v1/models/echo/a" in message


def test_nothing_is_left_running_after_failures(failing: Api, hasty: Api) -> None:
    def idle() -> Any:
        return failing.health()["running"] == hasty.health()["running"] == 0

    until(idle, "no request is running", seconds=2)
