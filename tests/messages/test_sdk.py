"""Anthropic's SDK over the app: strict validation of every answer, tools, and its exceptions."""

from __future__ import annotations

from collections.abc import Iterator

import anthropic
import pytest
from anthropic import Anthropic

from tests.support.anthropic_sdk import BASH, call_a_tool, client_of, exercise
from tests.support.client import Api, user
from tests.support.inprocess import echo, serving


@pytest.fixture
def sdk(api: Api) -> Iterator[Anthropic]:
    with client_of(api) as client:
        yield client


def test_messages_and_counts_pass_strict_validation(sdk: Anthropic) -> None:
    assert exercise(sdk, "plain") == "one two three"


def test_a_round_trip_with_a_tool(sdk: Anthropic) -> None:
    assert call_a_tool(sdk, "caller") == "All done."


def test_a_tool_is_called_in_a_stream(sdk: Anthropic) -> None:
    with sdk.messages.stream(
        model="caller", max_tokens=99, messages=[{"role": "user", "content": "a"}], tools=[BASH]
    ) as stream:
        kinds = [event.type for event in stream]
        message = stream.get_final_message()
    assert kinds.count("input_json") > 1
    assert message.content[1].type == "tool_use"
    assert message.content[1].input == {"command": "ls", "n": [1]}


def test_a_client_of_the_betas(sdk: Anthropic) -> None:
    message = sdk.beta.messages.create(
        model="thinker",
        max_tokens=2000,
        messages=[{"role": "user", "content": "a"}],
        thinking={"type": "adaptive"},
        betas=["context-management-2025-06-27"],
        context_management={"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    )
    assert [block.type for block in message.content] == ["thinking", "text"]


def test_refusals_become_the_sdks_exceptions(sdk: Anthropic) -> None:
    with pytest.raises(anthropic.BadRequestError, match="not served here") as bad:
        sdk.messages.create(model="nope", max_tokens=1, messages=[])
    assert bad.value.body["error"]["param"] == "model"  # type: ignore[index]
    with serving(echo(fail_after_tokens=2)) as failing, client_of(failing) as client:
        stream = client.messages.create(
            model="echo/a",
            max_tokens=9,
            messages=user("a b c"),  # type: ignore[arg-type]
            stream=True,
        )
        with pytest.raises(anthropic.APIStatusError, match="told to fail"):
            list(stream)


@pytest.mark.parametrize(
    ("options", "refusal"),
    [
        ({"api_key": "right"}, None),
        ({"api_key": None, "auth_token": "right"}, None),
        ({"api_key": "wrong"}, anthropic.PermissionDeniedError),
    ],
)
def test_keys(options: dict[str, str | None], refusal: type[Exception] | None) -> None:
    with serving(keys=("right",)) as api, client_of(api, **options) as client:
        asked = {"model": "echo/a", "messages": user("a")}
        if refusal is None:
            assert client.messages.count_tokens(**asked).input_tokens == 1  # type: ignore[arg-type]
        else:
            with pytest.raises(refusal):
                client.messages.count_tokens(**asked)  # type: ignore[arg-type]
