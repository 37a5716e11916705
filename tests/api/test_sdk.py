"""openai-python over the app: strict validation of every answer, and its exceptions."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from llm_serve.api.app import create_app
from llm_serve.config import Config
from tests.support.client import Api
from tests.support.inprocess import echo, serving
from tests.support.local_gateway import LocalGateway
from tests.support.sdk import MESSAGES, clients, exercise, exercise_async
from tests.support.sdk_responses import call_a_tool, exercise_responses


def _http(api: Api) -> httpx.Client:
    """A client of the SDK's own, since it closes the one that it is given."""
    return httpx.Client(transport=api.client._transport)


@pytest.fixture
def sdk(api: Api) -> Iterator[OpenAI]:
    yield from clients("http://test/v1", http_client=_http(api))


def test_every_route_passes_strict_validation(sdk: OpenAI) -> None:
    assert exercise(sdk, "echo/a") == "one two three"


def test_responses_pass_strict_validation(sdk: OpenAI) -> None:
    assert exercise_responses(sdk, "echo/a", "one two three") == "one two three"
    call = '<tool_call>{"name": "get_weather", "arguments": {"city": "Oslo"}}</tool_call>'
    called = echo("calls", answers=[call, "Rain."], tool_call_parser="hermes")
    with serving(called) as api:
        for client in clients("http://test/v1", http_client=_http(api)):
            assert call_a_tool(client, "calls") == "Rain."


def test_a_response_that_fails_midway_says_so(sdk: OpenAI) -> None:
    """The SDK hands the event on; it raises nothing."""
    with serving(echo(fail_after_tokens=2)) as api:
        for client in clients("http://test/v1", http_client=_http(api)):
            with client.responses.stream(model="echo/a", input="one two three") as stream:
                last = list(stream)[-1]
                assert last.type == "response.failed"
                assert "told to fail" in last.response.error.message
                with pytest.raises(RuntimeError):
                    stream.get_final_response()


async def test_every_route_passes_strict_validation_asynchronously() -> None:
    config = Config.model_validate({"models": [echo()]})
    gateway = LocalGateway(config)
    await gateway.start()
    transport = httpx.ASGITransport(app=create_app(config, gateway))
    async with (
        httpx.AsyncClient(transport=transport) as http,
        AsyncOpenAI(
            base_url="http://test/v1",
            api_key="x",
            http_client=http,
            _strict_response_validation=True,
        ) as client,
    ):
        assert await exercise_async(client, "echo/a") == "one two three"


def test_refusals_become_the_sdks_exceptions(sdk: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as bad:
        sdk.chat.completions.create(model="nope", messages=MESSAGES)
    assert (bad.value.code, bad.value.param, bad.value.type) == (
        *("model_not_found", "model", "invalid_request_error"),
    )
    with pytest.raises(openai.BadRequestError) as bad:
        sdk.chat.completions.create(model="echo/a", messages=MESSAGES, temperature=3)
    assert bad.value.param == "temperature"
    with pytest.raises(openai.NotFoundError) as gone:
        sdk.models.retrieve("nope")
    assert (gone.value.code, gone.value.param) == ("model_not_found", "model_id")
    with pytest.raises(openai.BadRequestError) as bad:
        sdk.embeddings.create(model="echo/a", input="x")
    assert bad.value.code == "unsupported_parameter"


def test_a_failure_in_a_stream_raises(sdk: OpenAI) -> None:
    with serving(echo(fail_after_tokens=2)) as api:
        for client in clients("http://test/v1", http_client=_http(api)):
            stream = client.chat.completions.create(model="echo/a", messages=MESSAGES, stream=True)
            with pytest.raises(openai.APIError, match="told to fail") as failed:
                list(stream)
            assert failed.value.code == "internal_error"


@pytest.mark.parametrize(
    ("keys", "expected"),
    [(("right",), openai.PermissionDeniedError), (("not-required",), None)],
)
def test_keys(keys: tuple[str, ...], expected: type[Exception] | None) -> None:
    with serving(keys=keys) as api:
        for client in clients("http://test/v1", http_client=_http(api)):
            if expected is None:
                assert client.models.list().data
            else:
                with pytest.raises(expected):
                    client.models.list()
