"""The real small model in float32, against `model.generate` and against logits by hand."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from llm_serve.backends.transformers.backend import TransformersBackend
from llm_serve.errors import EngineDied, InvalidRequest, PromptTooLong
from llm_serve.sampling import Prompt, Sampling

from ..conftest import DEFAULT_MAX_TOKENS, Greedy, ask, chat

pytestmark = pytest.mark.model

QUESTIONS = ["What is the capital of France?", "Write a haiku about rain.", "2+2=", "Hi"]
LONG = "Summarize this. " + "The quick brown fox jumps over the lazy dog near the river bank. " * 40


async def eventually(condition: Any, within_s: float = 1.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("question", [*QUESTIONS, LONG])
async def test_greedy_equals_generate(
    backend: TransformersBackend, by_generate: Greedy, question: str
) -> None:
    prompt = chat(backend, question)
    answer = await ask(backend, prompt, max_tokens=32)
    assert answer.text == by_generate(prompt, 32)


async def test_greedy_equals_generate_among_sixteen_others(
    backend: TransformersBackend, by_generate: Greedy
) -> None:
    prompts = [chat(backend, q) for q in (*QUESTIONS, LONG)]
    others = [
        ask(
            backend,
            chat(backend, "Tell me more about number " + "and one " * i),
            temperature=1.0 if i % 2 else 0.0,
            top_p=0.9 if i % 3 else 1.0,
            frequency_penalty=0.5 if i % 5 else 0.0,
            logprobs=2 if i % 4 else None,
            seed=i,
            max_tokens=8 + 3 * i,
        )
        for i in range(16)
    ]
    answers = await asyncio.gather(*(ask(backend, p, max_tokens=32) for p in prompts), *others)
    assert [a.text for a in answers[: len(prompts)]] == [by_generate(p, 32) for p in prompts]
    assert all(answer.finish_reason for answer in answers)


async def test_memory_pressure_changes_no_answer(
    cramped: TransformersBackend, by_generate: Greedy
) -> None:
    prompts = [chat(cramped, f"{q} {'x ' * 5 * i}") for i, q in enumerate(QUESTIONS * 2)]
    answers = await asyncio.gather(*(ask(cramped, p, max_tokens=24) for p in prompts))
    assert [a.text for a in answers] == [by_generate(p, 24) for p in prompts]


async def test_cancelling_under_memory_pressure_stalls_nobody(cramped: TransformersBackend) -> None:
    async def leave_early(i: int) -> None:
        deltas = cramped.generate(
            chat(cramped, "Count up " * i), Sampling(temperature=0, max_tokens=100, ignore_eos=True)
        )
        seen = 0
        async for delta in deltas:
            seen += delta.tokens
            if seen > 3 * i:
                break
        await deltas.aclose()

    await asyncio.gather(*(leave_early(i) for i in range(1, 9)))
    answer = await asyncio.wait_for(ask(cramped, chat(cramped, "Hi"), max_tokens=4), 30)
    assert answer.tokens == 4


async def test_a_request_may_fill_the_whole_cache(cramped: TransformersBackend) -> None:
    answers = await asyncio.gather(
        *(
            ask(cramped, Prompt(tuple(range(10, 242 + i))), max_tokens=500, ignore_eos=True)
            for i in range(3)
        )
    )
    assert [a.tokens for a in answers] == [24, 23, 22]
    assert {a.finish_reason for a in answers} == {"length"}


async def test_a_prompt_without_room_for_an_answer_is_refused(cramped: TransformersBackend) -> None:
    with pytest.raises(PromptTooLong, match="256"):
        await ask(cramped, Prompt((5,) * 256))
    assert (await ask(cramped, Prompt((5,) * 255), ignore_eos=True)).tokens == 1


@pytest.mark.parametrize(
    ("prompt", "sampling"),
    [
        (Prompt(()), {}),
        (Prompt((5, 49152)), {}),
        (Prompt((5, -1)), {}),
        (Prompt((5,)), {"logit_bias": ((49152, 1.0),)}),
    ],
)
async def test_ids_outside_the_vocabulary_are_refused(
    backend: TransformersBackend, prompt: Prompt, sampling: dict[str, Any]
) -> None:
    with pytest.raises(InvalidRequest):
        await ask(backend, prompt, **sampling)
    await backend.check_health()


async def test_leaving_frees_the_place(backend: TransformersBackend) -> None:
    deltas = backend.generate(chat(backend, "Hi"), Sampling(temperature=0, max_tokens=2000))
    await anext(deltas)
    assert backend._engine.active == 1
    await deltas.aclose()
    await eventually(lambda: backend._engine.active == 0)


async def test_cancelling_the_task_frees_the_place(backend: TransformersBackend) -> None:
    task = asyncio.create_task(ask(backend, chat(backend, "Hi"), max_tokens=2000, ignore_eos=True))
    await eventually(lambda: backend._engine.active == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await eventually(lambda: backend._engine.active == 0)


async def test_what_is_left_behind_is_nothing(backend: TransformersBackend) -> None:
    await ask(backend, chat(backend, "Hi"), max_tokens=3)
    assert backend._engine._requests == {}
    await eventually(lambda: backend._engine.active == 0)


async def test_a_stop_string_across_tokens_ends_the_answer(backend: TransformersBackend) -> None:
    prompt = chat(backend, QUESTIONS[0])
    whole = await ask(backend, prompt, max_tokens=16, logprobs=0)
    for stop in (whole.text[5:9], whole.text[3:14]):
        answer = await ask(backend, prompt, max_tokens=16, stop=("never", stop), logprobs=0)
        assert answer.text == whole.text[: whole.text.index(stop)]
        assert answer.finish_reason == "stop"
        assert 0 < answer.tokens < whole.tokens
        assert "".join(entry.token for entry in answer.logprobs).startswith(answer.text)
    await eventually(lambda: backend._engine.active == 0)


async def test_the_end_token_counts_and_is_not_text(
    backend: TransformersBackend, tokenizer: Any
) -> None:
    prompt = chat(backend, "What is the capital of France?")
    answer = await ask(backend, prompt, max_tokens=200, logprobs=1)
    assert answer.finish_reason == "stop"
    assert answer.tokens == len(tokenizer.encode(answer.text)) + 1
    assert "<|" not in answer.text
    assert "".join(entry.token for entry in answer.logprobs) == answer.text


async def test_ignore_eos_goes_on(backend: TransformersBackend) -> None:
    prompt = chat(backend, "What is the capital of France?")
    ended = await ask(backend, prompt, max_tokens=200)
    answer = await ask(backend, prompt, max_tokens=ended.tokens + 10, ignore_eos=True)
    assert (answer.tokens, answer.finish_reason) == (ended.tokens + 10, "length")
    assert answer.text.startswith(ended.text)


async def test_without_max_tokens_the_default_holds(cramped: TransformersBackend) -> None:
    answer = await ask(cramped, chat(cramped, "Hi"), ignore_eos=True)
    assert (answer.tokens, answer.finish_reason) == (DEFAULT_MAX_TOKENS, "length")


async def test_health_and_a_dead_loop(folder: Any) -> None:
    from ..conftest import loaded

    backend = await asyncio.to_thread(loaded, folder, kv_cache_tokens=256)
    await backend.check_health()
    deltas = backend.generate(chat(backend, "Hi"), Sampling(temperature=0, ignore_eos=True))
    await anext(deltas)

    def broken(*args: object) -> None:
        raise RuntimeError("CUDA error: device-side assert")

    backend._engine._planner.plan = broken
    with pytest.raises(EngineDied):
        async for _ in deltas:
            pass
    with pytest.raises(EngineDied):
        await backend.check_health()
    with pytest.raises(EngineDied):
        await ask(backend, chat(backend, "Hi"))
    await backend.close()


@pytest.mark.parametrize("breaks", [RuntimeError, SystemExit])
async def test_a_loop_that_cannot_even_tell_leaves_nobody_waiting(
    folder: Any, monkeypatch: pytest.MonkeyPatch, breaks: type[BaseException]
) -> None:
    """What ends the loop may as well break what it does at its end."""
    from ..conftest import loaded

    backend = await asyncio.to_thread(loaded, folder, kv_cache_tokens=256)
    deltas = backend.generate(chat(backend, "Hi"), Sampling(temperature=0, ignore_eos=True))
    await anext(deltas)

    def broken(*args: object) -> None:
        raise breaks("out of memory")

    monkeypatch.setattr(backend._engine._planner, "remove", broken)
    monkeypatch.setattr(backend._engine._planner, "plan", broken)
    monkeypatch.setattr("threading.excepthook", lambda _: None)

    async def rest() -> None:
        async for _ in deltas:
            pass

    with pytest.raises(EngineDied):
        await asyncio.wait_for(rest(), 10)
    with pytest.raises(EngineDied):
        await backend.check_health()
    with pytest.raises(EngineDied):
        await ask(backend, chat(backend, "Hi"))
    assert backend._engine._requests == {}
    await backend.close()


def test_template_errors_are_the_callers(backend: TransformersBackend) -> None:
    tokenizer = backend._checkpoint.tokenizer
    kept = tokenizer.chat_template
    try:
        tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
        with pytest.raises(InvalidRequest, match="roles must alternate"):
            chat(backend, "Hi")
        tokenizer.chat_template = None
        with pytest.raises(InvalidRequest, match="/v1/completions"):
            chat(backend, "Hi")
    finally:
        tokenizer.chat_template = kept


def test_text_is_encoded_as_the_tokenizer_does(
    backend: TransformersBackend, tokenizer: Any
) -> None:
    assert list(backend.encode_text("Hello world").token_ids) == tokenizer.encode("Hello world")
    assert backend.encode_text("").token_ids == (tokenizer.bos_token_id,)
