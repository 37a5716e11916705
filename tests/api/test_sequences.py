"""A request counts as many sequences as it asks for, and is no way past `max_running`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from llm_serve.api.parsing.parse import parse_chat, parse_completion
from llm_serve.config import Config
from llm_serve.errors import InvalidRequest, QueueFull
from llm_serve.generation.execution import execute
from llm_serve.generation.request import GenerationRequest
from llm_serve.sampling import Delta, Prompt, Sampling
from tests.support.client import Api, refused, user
from tests.support.inprocess import echo, serving
from tests.support.waiting import until


@pytest.fixture
def narrow() -> Any:
    with serving(echo(first_token_s=0.3, max_running=2, max_queued=4)) as api:
        yield api


@pytest.mark.parametrize(
    ("fields", "param"),
    [({"n": 7}, "n"), ({"n": 128, "prompt": ["a"] * 128}, "n"), ({"prompt": ["a"] * 7}, "prompt")],
)
def test_what_can_never_run_is_refused_by_its_field(
    narrow: Api, fields: dict[str, Any], param: str
) -> None:
    message = refused(narrow.complete(**{"prompt": "a", **fields}), InvalidRequest, param)
    assert "which is 6" in message
    if "prompt" not in fields:
        refused(narrow.chat(**fields), InvalidRequest, param)
    assert narrow.complete(["a", "b"], n=3).status_code == 200


def test_places_are_counted_in_sequences(narrow: Api) -> None:
    with ThreadPoolExecutor(1) as pool:
        wide = pool.submit(narrow.complete, ["a", "b"], n=2)
        until(lambda: narrow.gateway.inflight["echo/a"] == 4, "it has its places", seconds=5)
        refused(narrow.chat(n=3), QueueFull)
        assert narrow.chat(n=2).status_code == 200
        assert wide.result().status_code == 200
    assert narrow.gateway.inflight["echo/a"] == 0


class _Counting:
    """A backend that knows how many of its sequences ran at once."""

    running = most = 0

    def encode_text(self, text: str) -> Prompt:
        return Prompt((1,))

    async def generate(self, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[Delta, None]:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(0.01)
            yield Delta("a", 1)
            yield Delta("b", 1, finish_reason="stop")
        finally:
            self.running -= 1


@pytest.mark.parametrize(("max_running", "most"), [(1, 1), (3, 3), (64, 12)])
async def test_one_request_runs_no_more_at_once_than_a_model_does(
    max_running: int, most: int
) -> None:
    backend: Any = _Counting()
    request = GenerationRequest("x", "completion", "m", 0, Sampling(), prompts=("a",) * 4, n=3)
    body = b"".join([message async for message in execute(backend, request, max_running)])
    assert body.count(b'"ab"') == 12
    assert (backend.most, backend.running) == (most, 0)


def test_what_the_engines_own_server_answers_counts_the_same() -> None:
    config = Config.model_validate({"models": [{"id": "v", "backend": "vllm"}]})
    completion = {"prompt": ["a", "b", "c"], "n": 2, "echo": True}
    assert parse_completion(completion, config).sequences == 6
    assert parse_chat({"messages": user("a"), "n": 5, "echo": True}, config).sequences == 5
    with pytest.raises(InvalidRequest) as caught:
        parse_completion({"prompt": ["a"] * 128, "n": 2, "echo": True}, config)
    assert caught.value.param == "prompt"
