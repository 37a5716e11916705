"""The guide's promises, kept by every backend: the same tests on echo and on the real small model
in transformers, in vLLM and in TensorRT-LLM (a fake of it where there is no GPU).

The real model runs in float32, where an answer does not depend on who else is in the batch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import httpx
import pytest
from anthropic import Anthropic
from openai import AsyncOpenAI

from llm_serve.config import default_config
from llm_serve.errors import InvalidRequest
from tests.support import guide
from tests.support.anthropic_sdk import exercise as exercise_messages
from tests.support.client import CHAT, KEPT, Api, parse_frames, refused, user
from tests.support.sdk import clients, exercise, exercise_async
from tests.support.sdk_responses import exercise_forms, exercise_responses
from tests.support.streaming import live
from tests.support.waiting import until

SEASONS = "Name the four seasons of the year, in order."


@dataclass
class Served:
    """One backend behind HAProxy, as its only model."""

    api: Api
    model: str
    count: Callable[[list[dict[str, str]]], int]
    """Tokens of these messages through the model's chat template."""
    limited: bool
    """It is slow enough that a test should not ask for a long answer."""

    @property
    def url(self) -> str:
        return str(self.api.client.base_url).rstrip("/")


def _words(messages: list[dict[str, str]]) -> int:
    return len(messages[-1]["content"].split())


@pytest.fixture(scope="session")
def real_count() -> Callable[[list[dict[str, str]]], int]:
    from transformers import AutoTokenizer

    from llm_serve.models import resolve

    tokenizer = AutoTokenizer.from_pretrained(
        resolve(default_config().default_model), local_files_only=True
    )

    def count(messages: list[dict[str, str]]) -> int:
        ids = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=False
        )
        return len(ids)

    return count


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("echo", marks=pytest.mark.ray),
        pytest.param("transformers", marks=pytest.mark.model),
        pytest.param("vllm", marks=[pytest.mark.model, pytest.mark.vllm]),
        pytest.param("tensorrt_llm", marks=[pytest.mark.model, pytest.mark.gpu]),
    ],
)
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    if request.param == "echo":
        url, model, count = request.getfixturevalue("cluster").url, "echo/fast", _words
    else:
        fixture = {"transformers": "real", "vllm": "vllm", "tensorrt_llm": "tensorrt"}
        url = request.getfixturevalue(f"{fixture[request.param]}_url")
        model = default_config().default_model.id
        count = request.getfixturevalue("real_count")
    with httpx.Client(base_url=url, timeout=240, limits=KEPT) as client:
        yield Served(Api(client), model, count, limited=request.param != "echo")


def test_the_examples_are_the_guides() -> None:
    text = guide.text()
    if text is None:
        pytest.skip("the guide is not here; LLM_SERVE_TEST_DATA names the folder beside it")
    for example in guide.EXAMPLES:
        assert example in text
    assert text.count("curl -") == 4
    assert text.count("OpenAI(") == 2


def test_the_curl_example(served: Served) -> None:
    answer = json.loads(guide.run(guide.CURL_CHAT, served.url, served.model))
    assert answer["object"] == "chat.completion"
    assert answer["model"] == served.model
    assert answer["choices"][0]["message"]["content"].strip()


def test_the_streaming_curl_example(served: Served) -> None:
    printed = guide.run(guide.CURL_STREAM, served.url, served.model)
    frames = list(parse_frames(printed.encode()))
    assert frames[-1] == "[DONE]"
    assert "".join(
        choice["delta"].get("content", "")
        for frame in frames[:-1]
        for choice in json.loads(frame)["choices"]
    ).strip()


def test_the_models_and_health_examples(served: Served) -> None:
    models = json.loads(guide.run(guide.CURL_MODELS, served.url, served.model))
    assert {"status": "ready", "loaded": True}.items() <= models["data"][0].items()
    health = json.loads(guide.run(guide.CURL_HEALTH, served.url, served.model))
    assert (health["status"], health["loaded"]) == ("ok", True)
    assert health["model_id"] == served.model
    assert health["inference_backend"] == served.api.get("/v1/models").json()["data"][0]["backend"]


@pytest.mark.parametrize("example", [guide.SDK_CHAT, guide.SDK_STREAM], ids=["whole", "stream"])
def test_the_sdk_examples(served: Served, example: str) -> None:
    assert guide.run(example, served.url, served.model).strip()


def test_the_sdk_accepts_every_answer_strictly(served: Served) -> None:
    for client in clients(f"{served.url}/v1", timeout=240):
        assert exercise(client, served.model)


def test_the_sdk_reads_responses(served: Served) -> None:
    view = served.api.get(f"/v1/models/{served.model}").json()
    obeys = view["capabilities"]["response_format"] and "untried" not in view
    for client in clients(f"{served.url}/v1", timeout=240):
        assert exercise_responses(client, served.model, "Say hello.")
        if obeys:
            exercise_forms(client, served.model)


def test_anthropics_sdk_reads_messages(served: Served) -> None:
    with Anthropic(
        base_url=served.url, api_key="x", timeout=240, _strict_response_validation=True
    ) as client:
        assert exercise_messages(client, served.model)


async def test_the_asynchronous_sdk_accepts_every_answer_strictly(served: Served) -> None:
    async with AsyncOpenAI(
        base_url=f"{served.url}/v1", api_key="x", timeout=240, _strict_response_validation=True
    ) as client:
        assert await exercise_async(client, served.model)


RANGES: list[dict[str, Any]] = [
    *[{"temperature": value} for value in (0, 0.001, 1, 2)],
    *[{"top_p": value} for value in (1e-9, 0.5, 1)],
    *[{"max_tokens": 1}, {"max_completion_tokens": 1}, {"stream": True}],
    {"temperature": 2, "top_p": 1e-9},
    {"max_tokens": 8192, "max_completion_tokens": 2},
]


@pytest.mark.parametrize("fields", RANGES, ids=str)
def test_the_whole_of_each_range_is_served(served: Served, fields: dict[str, Any]) -> None:
    response = served.api.chat(SEASONS, model=served.model, **{"max_tokens": 2, **fields})
    assert response.status_code == 200


def test_the_longest_answer_may_be_asked_for_and_left(served: Served) -> None:
    for field in ("max_tokens", "max_completion_tokens"):
        with live(served.api, served.model, SEASONS, **{field: 8192}) as stream:
            stream.read(1)
            assert stream.response.status_code == 200
    until(lambda: served.api.health()["running"] == 0, "its place is free", seconds=1)


def test_past_a_range_nothing_is_generated(served: Served) -> None:
    refused(served.api.chat(model=served.model, max_tokens=8193), InvalidRequest, "max_tokens")
    refused(served.api.chat(model=served.model, top_p=0), InvalidRequest, "top_p")
    refused(served.api.chat(model=served.model, tools=5), InvalidRequest, "tools")


@pytest.mark.parametrize("max_tokens", [1, 3, 64])
def test_usage_and_finish_reason_are_right(served: Served, max_tokens: int) -> None:
    messages = user("Answer with one word: what is the capital of France?")
    body = {"model": served.model, "messages": messages, "temperature": 0}
    answer = served.api.post(CHAT, {**body, "max_tokens": max_tokens}).json()
    usage = answer["usage"]
    assert usage["prompt_tokens"] == served.count(messages)
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert 1 <= usage["completion_tokens"] <= max_tokens
    reason = answer["choices"][0]["finish_reason"]
    assert reason == ("length" if usage["completion_tokens"] == max_tokens else "stop")
    stream = served.api.chat_stream(
        **body, max_tokens=max_tokens, stream_options={"include_usage": True}
    )
    counted, cached = stream.chunks[-1]["usage"], usage.pop("prompt_tokens_details", None)
    # The same prompt again finds more of itself in the cache, where the engine has one.
    assert (counted.pop("prompt_tokens_details", None) is None) is (cached is None)
    assert counted == usage
    assert stream.finish() == reason


@pytest.mark.parametrize("kind", ["chat", "complete"])
def test_a_beginning_seen_before_is_counted_as_cached(served: Served, kind: str) -> None:
    text = f"{kind} " + "one two three four five six " * 40
    asked = {"model": served.model, "max_tokens": 2, "n": 2}
    ask, stream = getattr(served.api, kind), getattr(served.api, f"{kind}_stream")
    ask(text, **asked)
    again = ask(text, **asked).json()["usage"]
    if "prompt_tokens_details" not in again:
        pytest.skip("this engine does not count")
    streamed = stream(text, stream_options={"include_usage": True}, **asked).chunks[-1]["usage"]
    for usage in (again, streamed):
        cached = usage["prompt_tokens_details"]["cached_tokens"]
        # Whole pages are found, which have up to 128 tokens; the last token never is.
        assert usage["prompt_tokens"] - 129 <= cached < usage["prompt_tokens"]


def _greedy(served: Served, text: str, **fields: Any) -> str:
    body = {"model": served.model, "temperature": 0, "max_tokens": 24, **fields}
    answer: str = served.api.chat(text, **body).json()["choices"][0]["message"]["content"]
    return answer


def test_a_stop_string_ends_the_answer_and_is_not_in_it(served: Served) -> None:
    whole = _greedy(served, SEASONS)
    stop = whole.split()[3]
    cut = whole[: whole.index(stop)]
    body = {"model": served.model, "temperature": 0, "max_tokens": 24, "stop": ["\x00", stop]}
    answer = served.api.chat(SEASONS, **body).json()["choices"][0]
    assert (answer["message"]["content"], answer["finish_reason"]) == (cut, "stop")
    stream = served.api.chat_stream(SEASONS, **body)
    assert (stream.text(), stream.finish()) == (cut, "stop")


def test_the_same_seed_gives_the_same_answers(served: Served) -> None:
    def sample(seed: int) -> list[str]:
        body = {"model": served.model, "temperature": 1.5, "max_tokens": 12, "n": 3}
        answer = served.api.chat("Tell me a story.", seed=seed, **body).json()
        assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
        return [choice["message"]["content"] for choice in answer["choices"]]

    first = sample(7)
    assert sample(7) == first
    if served.limited:  # echo answers everyone alike
        assert len(set(first)) == 3
        assert sample(8) != first


def test_logprobs_spell_the_answer(served: Served) -> None:
    body = {"model": served.model, "temperature": 0, "max_tokens": 8, "logprobs": True}
    choice = served.api.chat(SEASONS, **body).json()["choices"][0]
    tokens = choice["logprobs"]["content"]
    spelt = b"".join(bytes(token["bytes"]) for token in tokens).decode()
    assert spelt.startswith(choice["message"]["content"])
    assert all(token["logprob"] <= 0 for token in tokens)


@pytest.mark.parametrize("text", ["🎉 😀 " * 6, "你好" * 8], ids=["emoji", "cjk"])
def test_characters_are_streamed_whole(served: Served, text: str) -> None:
    """A text that repeats is continued, so that the answer is in multi-byte characters too."""
    body = {"model": served.model, "temperature": 0, "max_tokens": 23}
    whole = served.api.complete(text, **body).json()["choices"][0]["text"]
    streamed = served.api.complete_stream(text, **body)  # each frame is decoded by itself
    assert streamed.text() == whole
    assert "\ufffd" not in whole
    assert max(whole) > "\u2fff", f"no wide character in {whole!r}"
    chat = served.api.chat_stream(text, **body)
    assert "\ufffd" not in chat.text()
    assert chat.text() == _greedy(served, text, max_tokens=23)


def test_32_clients_at_once_are_all_answered(served: Served) -> None:
    texts = [f"What is {a} plus {b}?" for a, b in pairwise(range(33))]
    alone = _greedy(served, texts[5], max_tokens=10)

    def ask(number: int) -> str:
        fields = {"model": served.model, "temperature": 0, "max_tokens": 10}
        if number % 2:
            return served.api.chat_stream(texts[number], **fields).text()
        return _greedy(served, texts[number], max_tokens=10)

    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(ask, range(32)))
    assert all(answer.strip() for answer in answers)
    assert answers[5] == alone, "who else is in the batch changed the answer"
    assert served.api.health()["running"] == 0
