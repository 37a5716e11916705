"""Whole answers of a small random model, which says anything that it may."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import aclosing
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from llm_serve.backends.transformers.backend import TransformersBackend
from llm_serve.errors import InvalidRequest
from llm_serve.sampling import Guide, Prompt, Sampling

from ...conftest import ask
from ..test_backend import eventually
from .random_schemas import random_schemas
from .test_guides import BOMBS

PROMPT = Prompt(tuple(range(40)))


def prompt(number: int) -> Prompt:
    return Prompt(tuple((7 * number + i) % 250 for i in range(20 + number % 30)))


async def test_answers_to_random_schemas_are_valid(small: TransformersBackend) -> None:
    """200 at once, among others that have none."""
    schemas = [schema for schema, _ in random_schemas(200)]
    closing = small._checkpoint.tokenizer.encode('"]}', add_special_tokens=False)
    asked = [
        ask(
            small,
            prompt(i),
            guide=Guide("json_schema", json.dumps(schema)),
            temperature=1.0,
            seed=i,
            max_tokens=120,
            logit_bias=tuple((token, 4.0) for token in closing),
            final_only=True,
        )
        for i, schema in enumerate(schemas)
    ]
    free = [ask(small, prompt(i), temperature=1.0, seed=i, max_tokens=30) for i in range(20)]
    answers = await asyncio.gather(*asked, *free)
    finished = 0
    for schema, answer in zip(schemas, answers, strict=False):
        if answer.finish_reason == "stop":
            finished += 1
            Draft202012Validator(schema).validate(json.loads(answer.text))
    assert finished > 150


async def test_whoever_has_no_guide_says_what_it_says_alone(small: TransformersBackend) -> None:
    options: list[dict[str, Any]] = [
        {},
        {"temperature": 1.0, "seed": 3},
        {"temperature": 0.7, "seed": 4, "top_p": 0.9, "logprobs": 1},
    ]
    alone = [await ask(small, PROMPT, max_tokens=40, **o) for o in options]
    guide = Guide("regex", "[a-z ]{60}")
    guided = [ask(small, PROMPT, max_tokens=80, guide=guide, seed=i) for i in range(4)]
    free = [ask(small, PROMPT, max_tokens=40, **o) for o in options]
    answers = await asyncio.gather(*free, *guided)
    assert [a.text for a in answers[:3]] == [a.text for a in alone]
    assert all(re.fullmatch(guide.text, a.text) for a in answers[3:])


async def test_preemption_keeps_the_place_in_the_guide(
    small: TransformersBackend, small_and_cramped: TransformersBackend
) -> None:
    guide = Guide("regex", "([a-c]{3}-){30}!")
    asked = [
        {"guide": guide, "temperature": 1.0, "seed": i, "max_tokens": 130, "logprobs": 0}
        for i in range(5)
    ]
    alone = [await ask(small, prompt(i), **o) for i, o in enumerate(asked)]
    planner, preempted = small_and_cramped._engine._planner, 0
    release = planner._release

    def counted(sequence: Any) -> None:
        nonlocal preempted
        preempted += sequence.pending == 1
        release(sequence)

    planner._release = counted  # type: ignore[method-assign]
    try:
        together = await asyncio.gather(
            *(ask(small_and_cramped, prompt(i), **o) for i, o in enumerate(asked))
        )
    finally:
        planner._release = release  # type: ignore[method-assign]
    assert preempted > len(asked), "nobody was preempted"
    assert [a.text for a in together] == [a.text for a in alone]
    assert all(re.fullmatch(guide.text, a.text) for a in together)


async def test_how_an_answer_ends(small: TransformersBackend) -> None:
    whole = await ask(small, PROMPT, guide=Guide("regex", "[ab]{7}"), max_tokens=50)
    assert (whole.finish_reason, len(whole.text), whole.tokens) == ("stop", 7, 7)
    exact = await ask(small, PROMPT, guide=Guide("regex", "[ab]{7}"), max_tokens=7)
    assert exact.finish_reason == "stop"
    cut = await ask(small, PROMPT, guide=Guide("regex", "[ab]{7}"), max_tokens=6)
    assert (cut.finish_reason, len(cut.text)) == ("length", 6)
    longest = await ask(small, PROMPT, guide=Guide("regex", "[ab]{0,7}"), ignore_eos=True)
    assert (longest.finish_reason, len(longest.text)) == ("stop", 7)
    for seed in range(8):
        drawn = {"temperature": 1.0, "seed": seed, "logit_bias": ((256, 3.0), (257, 3.0))}
        some = await ask(small, PROMPT, guide=Guide("regex", "[ab]*"), **drawn)
        assert some.finish_reason == "stop"
        assert some.tokens == len(some.text) + 1
    stopped = await ask(small, PROMPT, guide=Guide("regex", "[ab]{7}x"), stop=("x",))
    assert (stopped.finish_reason, len(stopped.text)) == ("stop", 7)


@pytest.mark.alone
async def test_a_stream_goes_on_while_bombs_are_refused(small: TransformersBackend) -> None:
    loop = asyncio.get_running_loop()
    await ask(small, PROMPT, guide=Guide("regex", "yes"))
    gaps, last, going = [], loop.time(), asyncio.Event()

    async def stream() -> None:
        nonlocal last
        sampling = Sampling(temperature=1.0, seed=1, ignore_eos=True, max_tokens=4000)
        async with aclosing(small.generate(PROMPT, sampling)) as deltas:
            async for _ in deltas:
                going.set()
                gaps.append(loop.time() - last)
                last = loop.time()

    running = asyncio.create_task(stream())
    await going.wait()
    gaps.clear()
    refused = await asyncio.gather(
        *(ask(small, PROMPT, guide=BOMBS[name]) for name in ("a huge automaton", "depth")),
        return_exceptions=True,
    )
    running.cancel()
    assert all(isinstance(error, InvalidRequest) for error in refused)
    assert len(gaps) > 50
    assert sorted(gaps)[len(gaps) // 2] < 0.1
    assert max(gaps) < 1.0


async def test_a_guide_that_fails_midway_fails_its_request_alone(
    small: TransformersBackend,
) -> None:
    guide = Guide("lark", 'start: s\ns: s s | "a" | "b" | "ab"', param="guided_grammar")
    other = Guide("regex", "[ab]{300}")
    options = {"temperature": 1.0, "seed": 1, "max_tokens": 3000, "ignore_eos": True}
    failing = ask(small, PROMPT, guide=guide, **options)
    others = [ask(small, prompt(i), guide=other, max_tokens=400) for i in range(3)]
    error, *answers = await asyncio.gather(failing, *others, return_exceptions=True)
    assert isinstance(error, InvalidRequest)
    assert error.param == "guided_grammar"
    assert all(len(a.text) == 300 for a in answers)  # type: ignore[union-attr]
    await eventually(lambda: small._engine.active == 0)
    await small.check_health()


async def test_who_leaves_frees_the_place(small: TransformersBackend) -> None:
    sampling = Sampling(guide=Guide("regex", "[ab]{3000}"), max_tokens=3000)
    async with aclosing(small.generate(PROMPT, sampling)) as deltas:
        await anext(deltas)
    await eventually(lambda: small._engine.active == 0)


async def test_special_tokens_are_text_where_they_are_asked_for(
    small: TransformersBackend,
) -> None:
    guide = Guide("lark", 'start: "a" <[258]> "b"')
    for asked, text in ((False, "ab"), (True, "a<end of thought>b")):
        answer = await ask(small, PROMPT, guide=guide, special_tokens=asked)
        assert (answer.text, answer.finish_reason) == (text, "stop")
    ended = Guide("lark", "start: /a+/ <[258]>*")
    bias = ((256, 50.0),)
    answer = await ask(small, PROMPT, guide=ended, special_tokens=True, logit_bias=bias)
    assert (answer.text, answer.finish_reason, answer.tokens) == ("a", "stop", 2)


async def test_reasoning_is_free(small: TransformersBackend) -> None:
    guide = Guide("regex", "yes|no", after="<end of thought>")
    for seed in range(4):
        answer = await ask(
            small,
            PROMPT,
            guide=guide,
            special_tokens=True,
            temperature=1.0,
            seed=seed,
            logit_bias=((258, 4.0),),
            max_tokens=1000,
        )
        assert answer.finish_reason == "stop"
        assert re.fullmatch(r"(?s).*<end of thought>[ \n]{0,2}(yes|no)", answer.text)
