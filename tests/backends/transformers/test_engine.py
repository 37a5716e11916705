"""What the engine must not let anyone notice: preemption, reuse, and other people's errors."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llm_serve.backends.transformers.backend import TransformersBackend
from llm_serve.errors import InternalError
from llm_serve.sampling import Conversation, Prompt

from ..conftest import Answer, Greedy, ask, chat, loaded

pytestmark = pytest.mark.model

SYSTEM = "You are a careful assistant who answers in short sentences. " * 6
ALL_SORTS: list[dict[str, Any]] = [
    {"temperature": 1.0, "seed": 11, "logprobs": 2},
    {"temperature": 0.8, "seed": 12, "top_p": 0.9, "frequency_penalty": 0.7, "logprobs": 1},
    {"temperature": 1.2, "seed": 13, "top_k": 40, "presence_penalty": 0.5},
    {"logprobs": 3, "frequency_penalty": 1.5},
    {"temperature": 1.0, "seed": 14, "min_p": 0.05, "logit_bias": ((28, 3.0),)},
]


@pytest.fixture(scope="module")
def forgetful(folder: Path) -> Iterator[TransformersBackend]:
    """One that computes everything itself."""
    backend = loaded(folder, prefix_cache=False)
    yield backend
    asyncio.run(backend.close())


def turn(backend: TransformersBackend, *said: str) -> Prompt:
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate(said)]
    return backend.encode_chat(
        Conversation(
            (
                {"role": "system", "content": SYSTEM},
                *messages,
            )
        )
    )


def cached(answer: Answer) -> int | None:
    assert all(delta.cached_tokens is None for delta in answer.deltas[1:])
    return answer.deltas[0].cached_tokens


def same(one: Answer, other: Answer) -> bool:
    """Whether they have the same tokens, with the log-probabilities up to rounding."""
    pairs = zip(one.logprobs, other.logprobs, strict=True)
    return (one.text, one.tokens, one.finish_reason) == (
        other.text,
        other.tokens,
        other.finish_reason,
    ) and all(a.logprob == pytest.approx(b.logprob, abs=1e-3) for a, b in pairs)


async def test_preemption_loses_neither_draws_nor_counts_nor_logprobs(
    backend: TransformersBackend, cramped: TransformersBackend
) -> None:
    prompts = [chat(cramped, "Tell a story about " + "a fox and " * i) for i in range(5)]
    asked = [{**options, "max_tokens": 60, "ignore_eos": True} for options in ALL_SORTS]
    alone = [await ask(backend, p, **o) for p, o in zip(prompts, asked, strict=True)]
    planner, preempted = cramped._engine._planner, 0
    release = planner._release

    def counted(sequence: Any) -> None:
        nonlocal preempted
        preempted += sequence.pending == 1
        release(sequence)

    planner._release = counted  # type: ignore[method-assign]
    try:
        together = await asyncio.gather(
            *(ask(cramped, p, **o) for p, o in zip(prompts, asked, strict=True))
        )
    finally:
        planner._release = release  # type: ignore[method-assign]
    assert preempted > len(prompts), "nobody was preempted"
    assert all(same(a, b) for a, b in zip(alone, together, strict=True))


async def test_the_turns_of_a_chat_are_not_computed_again(
    backend: TransformersBackend, by_generate: Greedy
) -> None:
    said = ["What is the capital of Portugal?"]
    before = 0
    for question in ("And of Spain?", "Which is larger?", "Thank you."):
        prompt = turn(backend, *said)
        answer = await ask(backend, prompt, max_tokens=24)
        assert answer.text == by_generate(prompt, 24)
        assert before - 32 < (cached(answer) or 0) < len(prompt.token_ids)
        # The next prompt repeats this one and what was answered, as far as the template does.
        before = len(prompt.token_ids) if before else len(prompt.token_ids) - 8
        said += [answer.text, question]


@pytest.mark.parametrize("length", [31, 32, 33, 64, 65, 96, 600])
async def test_found_or_computed_the_tokens_are_the_same(
    backend: TransformersBackend, forgetful: TransformersBackend, length: int
) -> None:
    prompt = Prompt(tuple(1000 + 13 * i + length for i in range(length)))
    options = {"max_tokens": 20, "logprobs": 2, "ignore_eos": True}
    cold, warm, computed = [await ask(b, prompt, **options) for b in (backend, backend, forgetful)]
    assert (cached(cold), cached(warm)) == (0, (length - 1) // 32 * 32)
    assert cached(computed) is None
    assert same(cold, warm)
    assert same(cold, computed)


async def test_a_common_beginning_among_others_changes_no_answer(
    backend: TransformersBackend, by_generate: Greedy
) -> None:
    questions = ["Name a colour.", "Name a river.", "Count to five."] * 2
    prompts = [turn(backend, f"{q} {i // 3}") for i, q in enumerate(questions)]
    first = await ask(backend, prompts[0], max_tokens=16)
    rest = await asyncio.gather(*(ask(backend, p, max_tokens=16) for p in prompts[1:]))
    assert [a.text for a in (first, *rest)] == [by_generate(p, 16) for p in prompts]
    assert all((cached(a) or 0) >= 32 for a in rest)


async def test_numbers_that_are_none_stay_with_their_sequence(
    backend: TransformersBackend, by_generate: Greedy
) -> None:
    """Pages that held NaN are given to others, who must not see what they do not overwrite."""
    memory = backend._engine._runner._memory
    pages = backend._engine._planner._pages
    for tensor in (*memory.keys, *memory.values):
        for page in pages._free:
            tensor[page * 32 : (page + 1) * 32] = float("nan")
    prompts = [chat(backend, "Name an animal." + " Please." * i) for i in range(6)]
    answers = await asyncio.gather(*(ask(backend, p, max_tokens=12) for p in prompts))
    assert [a.text for a in answers] == [by_generate(p, 12) for p in prompts]


async def test_a_prompt_that_memory_is_too_short_for_ends_alone(
    cramped: TransformersBackend, by_generate: Greedy, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    runner = cramped._engine._runner
    run = runner.run

    def short(parts: Any) -> Any:
        if any(part.count > 40 for part in parts):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return run(parts)

    monkeypatch.setattr(runner, "run", short)
    prompt = chat(cramped, "Hi")
    going_on = asyncio.create_task(ask(cramped, prompt, max_tokens=30))
    await asyncio.sleep(0.2)
    with pytest.raises(InternalError, match="memory"):
        await ask(cramped, Prompt((7,) * 100))
    assert (await going_on).text == by_generate(prompt, 30)
    await cramped.check_health()
