"""Compiling: once for each guide, within bounds of time and memory, and nobody else's business."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import psutil
import pytest

from llm_serve.backends.transformers.guides import guides as module
from llm_serve.backends.transformers.guides.constraint import Constraint
from llm_serve.backends.transformers.guides.guides import Guides
from llm_serve.errors import InvalidRequest
from llm_serve.sampling import Guide

YES = Guide("regex", "yes")


def nested(depth: int) -> str:
    return '{"items": ' * depth + "true" + "}" * depth


def many(count: int) -> str:
    return json.dumps({"type": "object", "properties": {f"k{i}": {} for i in range(count)}})


BOMBS = {
    "a huge automaton": Guide("json_schema", '{"type": "integer", "multipleOf": 99999989}'),
    "depth": Guide("json_schema", nested(20_000)),
    "depth of a regex": Guide("regex", "(" * 9000 + "a" + ")" * 9000),
    "depth of a grammar": Guide("grammar", "root ::= " + "(" * 9000 + '"a"' + ")" * 9000),
    "properties": Guide("json_schema", many(8000)),
    "allOf of anyOf": Guide(
        "json_schema",
        json.dumps(
            {
                "allOf": [
                    {"anyOf": [{"properties": {f"k{i}": {"const": j}}} for j in range(3)]}
                    for i in range(14)
                ]
            }
        ),
    ),
    "repetitions": Guide("json_schema", '{"type": "array", "minItems": 99999999999999999999}'),
    "length": Guide("regex", "x" * 2**19),
    "a long number": Guide("json_schema", '{"type": "string", "minLength": 1e300}'),
}


async def compiled(guides: Guides, guide: Guide) -> Constraint:
    return await guides.constraint(guide, ignore_eos=False)


@pytest.mark.parametrize("bomb", BOMBS)
async def test_a_bomb_is_refused_while_all_else_goes_on(guides: Guides, bomb: str) -> None:
    await compiled(guides, YES)  # what was compiled before is there at once
    longest, began = 0.0, time.monotonic()

    async def tick() -> None:
        nonlocal longest
        while True:
            before = time.monotonic()
            await compiled(guides, YES)
            await asyncio.sleep(0.001)
            longest = max(longest, time.monotonic() - before)

    ticking = asyncio.create_task(tick())
    with pytest.raises(InvalidRequest) as raised:
        await compiled(guides, BOMBS[bomb])
    took = time.monotonic() - began
    ticking.cancel()
    assert raised.value.param == "response_format"
    assert len(raised.value.message) < 600
    assert took < module.trial.WALL_S + 5
    assert longest < took / 2 + 0.3
    with pytest.raises(InvalidRequest):  # and is remembered
        await asyncio.wait_for(compiled(guides, BOMBS[bomb]), 0.5)


async def test_a_bomb_takes_no_memory(guides: Guides) -> None:
    await compiled(guides, YES)
    before = psutil.Process().memory_info().rss
    for number in range(3):
        text = json.dumps(
            {"type": "array", "items": {"type": "integer"}, "minItems": 10**9 + number}
        )
        guide = Guide("json_schema", text)
        await asyncio.gather(compiled(guides, guide), return_exceptions=True)
    assert psutil.Process().memory_info().rss - before < 2**28


async def test_an_error_names_the_field_of_the_request(guides: Guides) -> None:
    for guide in (
        Guide("json_schema", '{"not": {}}', param="guided_json"),
        Guide("regex", "x" * (module.LONGEST + 1), param="guided_json"),
    ):
        with pytest.raises(InvalidRequest, match="guided_json: the") as raised:
            await compiled(guides, guide)
        assert raised.value.param == "guided_json"
        assert "\n" not in raised.value.message


async def test_equal_guides_are_compiled_once(
    guides: Guides, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    await compiled(guides, YES)
    assert guides._trials is not None
    ask = guides._trials.ask

    def counted(guide: dict[str, Any]) -> dict[str, Any]:
        asked.append(guide["text"])
        return ask(guide)

    monkeypatch.setattr(guides._trials, "ask", counted)
    other = Guide("regex", "no+", param="elsewhere")
    leaving = asyncio.create_task(compiled(guides, other))
    waiting = [asyncio.create_task(compiled(guides, Guide("regex", "no+"))) for _ in range(8)]
    await asyncio.sleep(0)
    leaving.cancel()  # those who wait for the same guide do not notice
    assert len({id(c) for c in await asyncio.gather(*waiting)}) == 8
    assert asked == ["no+"]


async def test_what_is_kept_is_bounded(guides: Guides, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 4)
    texts = ["a", "b", "(", "d", "e", "f"]
    for text in texts:
        await asyncio.gather(compiled(guides, Guide("regex", text)), return_exceptions=True)
        await asyncio.gather(compiled(guides, Guide("regex", "a")))  # in use, so it stays
    assert [key[1] for key in guides._known] == ["d", "e", "f", "a"]
    assert guides._sizes.keys() == guides._known.keys()
    monkeypatch.setattr(module, "MOST_BYTES", 3)
    await compiled(guides, Guide("regex", "xyz"))
    assert [key[1] for key in guides._known] == ["xyz"]


async def test_a_trial_that_dies_is_started_again(guides: Guides) -> None:
    await compiled(guides, YES)
    assert guides._trials is not None
    first = guides._trials._process
    assert first is not None
    psutil.Process(first.pid).kill()
    first.wait()
    await compiled(guides, Guide("regex", "no"))
    second = guides._trials._process
    assert second is not None
    assert second.pid != first.pid
    guides.close()
    assert not psutil.pid_exists(second.pid)
