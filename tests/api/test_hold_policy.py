"""Who is held in `auto` while a model loads, and for how long; user agents as clients send them."""

from __future__ import annotations

import pytest

from llm_serve.api.hold_policy import Hold, hold_for
from llm_serve.config import ColdStart
from tests.support.client import CHAT

AUTO = ColdStart(max_hold_s=300)
COMPLETIONS = "/v1/completions"
CURL = {"user-agent": "curl/7.88.1"}
OTHERS = (
    *("/v1/responses", "/v1/messages", "/v1/messages/count_tokens", "/v1/embeddings"),
    *("/tokenize", "/detokenize"),
)


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
@pytest.mark.parametrize("agent", ["curl/7.88.1", "python-httpx/0.28.1", "", "my-ai-sdk-app"])
def test_who_can_read_a_202_gets_it(path: str, agent: str) -> None:
    assert hold_for({"user-agent": agent}, AUTO, path) == Hold(None)


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
@pytest.mark.parametrize(
    "headers",
    [
        {"user-agent": "OpenAI/JS 6.49.0", "x-stainless-lang": "js"},
        {"user-agent": "pydantic-ai/2.38.0", "x-stainless-lang": "python"},
        {"user-agent": "ai/6.0.326 ai-sdk/provider-utils/4.0.65 runtime/node.js/v20.20.2"},
        {"user-agent": "ai-sdk/openai-compatible/2.0.92 ai-sdk/provider-utils/4.0.65"},
        {"user-agent": "litellm/1.110.2"},
    ],
)
def test_who_would_take_it_for_an_empty_answer_is_held(headers: dict[str, str], path: str) -> None:
    assert hold_for(headers, AUTO, path) == Hold(300)


@pytest.mark.parametrize("path", OTHERS)
@pytest.mark.parametrize("headers", [{}, CURL, {"user-agent": "codex_exec/0.169.0 (Debian 12)"}])
def test_a_route_that_has_no_202_holds_everybody(headers: dict[str, str], path: str) -> None:
    assert hold_for(headers, AUTO, path) == Hold(300)


@pytest.mark.parametrize("name", ["x-stainless-read-timeout", "x-stainless-timeout"])
def test_the_answer_is_there_before_the_client_gives_up(name: str) -> None:
    headers = {"x-stainless-lang": "js", name: "60"}
    assert hold_for(headers, AUTO, CHAT) == Hold(55)
    assert hold_for({**headers, name: "2"}, AUTO, CHAT) == Hold(1)
    assert hold_for({**headers, name: "6000"}, AUTO, CHAT) == Hold(300)
    assert hold_for({**headers, name: "none"}, AUTO, CHAT) == Hold(300)


@pytest.mark.parametrize("path", [CHAT, *OTHERS])
def test_each_request_decides_for_itself(path: str) -> None:
    sdk = {"x-stainless-lang": "python"}
    assert hold_for({**sdk, "prefer": "respond-async"}, AUTO, path) == Hold(None, "respond-async")
    assert hold_for({**CURL, "prefer": "wait=7"}, AUTO, path) == Hold(7, "wait=7")


@pytest.mark.parametrize("path", [CHAT, *OTHERS])
def test_the_other_modes_are_for_everybody(path: str) -> None:
    sdk = {"x-stainless-lang": "python"}
    assert hold_for(sdk, ColdStart(mode="accept"), path) == Hold(None)
    assert hold_for(CURL, ColdStart(mode="wait", max_hold_s=30), path) == Hold(30)
