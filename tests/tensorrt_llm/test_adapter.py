"""The adapter: each parameter and error, one by one."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from llm_serve.backends import UNTRIED, check_engine, tensorrt_llm
from llm_serve.backends.tensorrt_llm import OURS, TensorrtBackend, imported
from llm_serve.backends.tensorrt_params import parameters
from llm_serve.config import ModelConfig
from llm_serve.errors import (
    EngineDied,
    InternalError,
    InvalidRequest,
    LoadFailed,
    UnsupportedParameter,
)
from llm_serve.sampling import Conversation, Guide, Sampling
from tests.support.client import Api, refused, user
from tests.support.tensorrt import REAL
from tests.support.waiting import until
from tests.tensorrt_llm.conftest import MODEL, entry

pytestmark = pytest.mark.gpu
on_the_fake = pytest.mark.skipif(REAL, reason="it looks into the fake")
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
}


def fake(api: Api) -> Any:
    (backend,) = api.gateway.backends.values()
    assert isinstance(backend, TensorrtBackend)
    return backend._llm


@on_the_fake
@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"temperature": 0}, {"temperature": None, "top_k": 1, "top_p": None}),
        ({"temperature": 0.5}, {"temperature": 0.5, "top_k": 0, "top_p": 1.0}),
        ({"top_p": 0.4, "top_k": 9}, {"top_p": 0.4, "top_k": 9}),
        ({"min_p": 0.1}, {"min_p": 0.1}),
        ({"seed": 5}, {"seed": 5}),
        ({"seed": -1}, {"seed": 2**64 - 1}),
        ({"presence_penalty": 1.5}, {"presence_penalty": 1.5, "frequency_penalty": None}),
        ({"frequency_penalty": -1}, {"frequency_penalty": -1.0, "presence_penalty": None}),
        ({"max_tokens": 3}, {"max_tokens": 3, "detokenize": False}),
        ({"logprobs": True}, {"logprobs": 1}),
        ({"logprobs": True, "top_logprobs": 4}, {"logprobs": 4}),
        ({"ignore_eos": True}, {"ignore_eos": True}),
    ],
)
def test_each_parameter_is_mapped(
    api: Api, fields: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert api.chat("Hi.", **{"max_tokens": 2, **fields}).status_code == 200
    params = fake(api).submitted[-1]
    assert {name: getattr(params, name) for name in expected} == expected


@on_the_fake
def test_without_a_seed_answers_differ(api: Api) -> None:
    """The runtime's own default seed is 0."""
    for _ in range(2):
        api.chat("Hi.", max_tokens=1)
    first, second = (params.seed for params in fake(api).submitted[-2:])
    assert first != second


@on_the_fake
def test_a_bias_is_a_tensor_over_the_vocabulary(api: Api) -> None:
    answer = api.complete("The", logit_bias={"260": 100}, max_tokens=3, temperature=0).json()
    bias = fake(api).submitted[-1].embedding_bias
    assert bias[260] == 100
    assert bias.count_nonzero() == 1
    assert len(set(answer["choices"][0]["text"].split())) == 1


def test_json_is_obeyed(api: Api) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}}
    for form in (schema, {"type": "json_object"}):
        asked = {"response_format": form, "max_tokens": 64, "temperature": 0}
        text = api.chat("Describe a person.", **asked).json()["choices"][0]["message"]["content"]
        value = json.loads(text)
        assert isinstance(value, dict)
        assert form is not schema or set(value) == {"name", "age"}
        assert api.chat_stream("Describe a person.", **asked).text() == text
    plain = api.chat("Hi.", response_format={"type": "text"}, max_tokens=1)
    assert plain.status_code == 200


NAMED = {"type": "function", "function": {"name": "person"}}


@pytest.mark.parametrize("choice", ["required", NAMED])
def test_a_call_is_enforced(api: Api, choice: Any) -> None:
    tools = [{"type": "function", "function": {"name": "person", "parameters": PERSON}}]
    asked = {"tools": tools, "tool_choice": choice, "max_tokens": 64, "parallel_tool_calls": False}
    (answer,) = api.chat("Describe a person.", **asked).json()["choices"]
    (call,) = answer["message"]["tool_calls"]
    assert call["function"]["name"] == "person"
    assert set(json.loads(call["function"]["arguments"])) == {"name", "age"}
    assert (answer["message"]["content"], answer["finish_reason"]) == (None, "tool_calls")
    stream = api.chat_stream("Describe a person.", **asked)
    assert (stream.text(), stream.finish()) == ("", "tool_calls")


def test_an_expression_is_obeyed(api: Api) -> None:
    body = api.chat("Answer.", guided_choice=["yes"], max_tokens=8).json()
    assert body["choices"][0]["message"]["content"].strip("()") == "yes"
    with pytest.raises(UnsupportedParameter, match="begins with reasoning") as raised:
        parameters(
            imported(MODEL), Sampling(guide=Guide(after="</think>")), room=1, eos=(), vocabulary=1
        )
    assert raised.value.param == "response_format"


def test_what_it_cannot_do_is_refused(api: Api) -> None:
    refused(api.complete("Hi.", echo=True), UnsupportedParameter, "echo")
    malformed = api.chat("Hi.", response_format={"type": "json_schema"})
    assert malformed.status_code == 400
    assert malformed.json()["error"]["param"].startswith("response_format")


def test_what_was_not_tried_is_told(api: Api) -> None:
    view = api.get(f"/v1/models/{MODEL}").json()
    assert view["untried"] == UNTRIED["tensorrt_llm"]
    assert view["capabilities"]["response_format"]
    assert not view["capabilities"]["images"]
    assert view["engine_details"]["tool_rendering"] == "plain"


@on_the_fake
async def test_who_leaves_is_aborted(api: Api) -> None:
    (backend,) = api.gateway.backends.values()
    before = fake(api).aborted

    async def leave() -> None:
        prompt = backend.encode_chat(Conversation(tuple(user("Write a long story."))))
        async with aclosing(backend.generate(prompt, Sampling(ignore_eos=True))) as deltas:
            await anext(deltas)

    await asyncio.to_thread(lambda: asyncio.run_coroutine_threadsafe(leave(), api.loop).result(30))
    until(lambda: fake(api).aborted == before + 1, "it is aborted", seconds=1)


@on_the_fake
def test_a_stop_string_aborts_the_rest(api: Api) -> None:
    whole = api.chat("Name the seasons.", temperature=0, max_tokens=24).json()
    text = whole["choices"][0]["message"]["content"]
    stop = text.split()[3]
    before = fake(api).aborted
    cut = api.chat("Name the seasons.", temperature=0, max_tokens=24, stop=stop).json()
    assert cut["choices"][0]["message"]["content"] == text[: text.index(stop)]
    assert fake(api).aborted == before + 1


@on_the_fake
def test_errors_are_of_our_hierarchy(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tensorrt_llm import FAIL_ENGINE, FAIL_REQUEST  # type: ignore[import-not-found]

    from tests.support.inprocess import serving

    def refuses(*_: Any, **__: Any) -> None:
        raise ValueError("max_tokens is too large for /srv/engine")

    def dead(**_: Any) -> None:
        raise RuntimeError("the executor has shut down")

    with serving(entry(folder, dtype="float32"), start_s=120) as api:
        refused(api.chat(FAIL_REQUEST), InternalError, None)
        assert api.chat("Hi.", max_tokens=1).status_code == 200
        (backend,) = api.gateway.backends.values()
        asyncio.run_coroutine_threadsafe(backend.check_health(), api.loop).result(5)
        (its, ours) = (fake(api), "generate_async"), (tensorrt_llm, "parameters")
        for (owner, name), kind in ((its, InvalidRequest), (ours, InternalError)):
            with monkeypatch.context() as patched:
                patched.setattr(owner, name, refuses)
                response = api.chat("Hi.")
            refused(response, kind, None)
            assert "/srv" not in response.text
        refused(api.chat(FAIL_ENGINE), EngineDied, None)
        failing = asyncio.run_coroutine_threadsafe(backend.check_health(), api.loop)
        with pytest.raises(EngineDied):
            failing.result(5)
        monkeypatch.setattr(fake(api), "generate_async", dead)
        refused(api.chat("Hi."), EngineDied, None)


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"max_seq_length": 5}, "Did you mean max_seq_len?"),
        ({"no_such_thing_at_all": 5}, "no engine argument 'no_such_thing_at_all'"),
        ({"trust_remote_code": True}, OURS["trust_remote_code"]),
        ({"model": "x"}, OURS["model"]),
    ],
)
def test_a_wrong_keyword_is_named(folder: Path, section: dict[str, Any], said: str) -> None:
    config = ModelConfig.model_validate(entry(folder, **section))
    with pytest.raises(LoadFailed) as raised:
        check_engine(config)
    assert said in raised.value.message


async def test_too_little_memory_is_a_sentence(folder: Path) -> None:
    section = {"kv_cache_config": {"free_gpu_memory_fraction": 9.0}}
    config = ModelConfig.model_validate(entry(folder, **section))
    with pytest.raises(LoadFailed) as raised:
        await TensorrtBackend(config).load(lambda progress: None)
    assert str(folder) not in raised.value.message
    assert REAL or "not enough GPU memory" in raised.value.message


@on_the_fake
def test_an_absent_package_is_a_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt_llm", None)
    with pytest.raises(LoadFailed) as raised:
        check_engine(ModelConfig.model_validate(entry(folder)))
    assert "pip install" in raised.value.message


@on_the_fake
def test_another_version_is_a_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorrt_llm

    def generate_async(self: Any, inputs: Any, params: Any) -> None: ...

    monkeypatch.setattr(tensorrt_llm.LLM, "generate_async", generate_async)
    monkeypatch.setattr(tensorrt_llm, "__version__", "0.9")
    with pytest.raises(LoadFailed) as raised:
        check_engine(ModelConfig.model_validate(entry(folder)))
    assert "TensorRT-LLM 0.9 has no generate_async(sampling_params)" in raised.value.message
