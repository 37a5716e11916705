"""The engine itself: who leaves is forgotten, what is wrong is said before it is loaded."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from llm_serve.backends.vllm.arguments import OURS, check_keys
from llm_serve.backends.vllm.backend import VllmBackend
from llm_serve.config import ModelConfig
from llm_serve.errors import LoadFailed
from llm_serve.sampling import Conversation, Sampling
from tests.support.client import Api
from tests.support.waiting import until

pytestmark = pytest.mark.vllm


def running() -> float:
    """Requests that the engine runs or queues, by its own metrics."""
    from prometheus_client import REGISTRY

    names = ("vllm:num_requests_running", "vllm:num_requests_waiting")
    return sum(
        sample.value
        for metric in REGISTRY.collect()
        for sample in metric.samples
        if sample.name in names
    )


async def test_sixteen_who_leave_leave_nothing_running(api: Api) -> None:
    (backend,) = api.gateway.backends.values()
    assert isinstance(backend, VllmBackend)
    tool = {"messages": [{"role": "user", "content": "Hi."}], "min_tokens": 900, "stream": True}

    async def plain() -> None:
        prompt = backend.encode_chat(
            Conversation(({"role": "user", "content": "Write a long story."},))
        )
        async with aclosing(backend.generate(prompt, Sampling(ignore_eos=True))) as deltas:
            await anext(deltas)
            assert backend.unfinished() > 0

    async def by_the_engines_server() -> None:
        body = json.dumps(tool).encode()
        async with aclosing(backend.serve("/v1/chat/completions", body)) as messages:
            await anext(messages)

    def leave() -> None:
        async def all_at_once() -> None:
            await asyncio.gather(*(plain() for _ in range(8)))
            await asyncio.gather(*(by_the_engines_server() for _ in range(8)))

        asyncio.run_coroutine_threadsafe(all_at_once(), api.loop).result(60)

    await asyncio.to_thread(leave)
    until(lambda: backend.unfinished() == 0, "the engine forgets who left", seconds=1)
    await asyncio.to_thread(lambda: api.chat("Hi.", max_tokens=2))  # metrics come with work
    assert running() == 0


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"max_modle_len": 5}, "Did you mean max_model_len?"),
        ({"no_such_thing_at_all": 5}, "no engine argument 'no_such_thing_at_all'"),
        ({"served_model_name": "x"}, OURS["served_model_name"]),
        ({"trust_remote_code": True}, OURS["trust_remote_code"]),
        ({"port": 5}, "no engine argument 'port'"),
    ],
)
def test_a_wrong_key_is_named(section: dict[str, Any], said: str) -> None:
    with pytest.raises(LoadFailed) as raised:
        check_keys(section, "m")
    assert said in raised.value.message


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"max_model_len": "long"}, "max_model_len"),
        ({"dtype": "float3"}, "dtype"),
        ({"tensor_parallel_size": -1}, "parallel"),
        ({"max_model_len": 10**9}, "max_model_len"),
    ],
)
async def test_a_wrong_value_is_a_sentence(
    folder: Path, section: dict[str, Any], said: str
) -> None:
    config = ModelConfig.model_validate(
        {"id": "m", "backend": "vllm", "source": str(folder), "engine": section}
    )
    with pytest.raises(LoadFailed) as raised:
        await VllmBackend(config).load(lambda progress: None)
    assert said in raised.value.message
    assert str(folder) not in raised.value.message


async def test_an_engine_that_does_not_run_says_why(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine's processes log the reason; what reaches us is that they have died."""

    class Logged:
        def first(self) -> str:
            return "no kernel for this head size"

    async def dies(adapters: object) -> None:
        raise RuntimeError("Engine core died")

    backend = VllmBackend(
        ModelConfig.model_validate({"id": "m", "backend": "vllm", "source": str(folder)})
    )
    monkeypatch.setattr(backend, "_start", lambda folder: 0)
    monkeypatch.setattr(backend, "_open", dies)
    monkeypatch.setattr(backend, "_reasons", Logged(), raising=False)
    with pytest.raises(LoadFailed, match="it does not run: no kernel for this head size"):
        await backend.load(lambda progress: None)
