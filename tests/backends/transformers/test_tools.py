"""The small model calls functions that it has never seen, since the grammar leaves it no choice."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings

from llm_serve.backends.transformers.backend import TransformersBackend
from llm_serve.chat.grammar.arguments import arguments_schema
from llm_serve.sampling import Conversation, Sampling, Tools
from tests.chat.signatures import functions

pytestmark = pytest.mark.model
SIGNATURES = 100


def _signatures() -> list[dict[str, Any]]:
    drawn: list[dict[str, Any]] = []

    @settings(
        max_examples=SIGNATURES,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(functions())
    def draw(function: dict[str, Any]) -> None:
        drawn.append(function)

    draw()
    return drawn[:SIGNATURES]


async def _called(backend: TransformersBackend, function: dict[str, Any]) -> str | None:
    """The arguments of the call; None where the tokens were spent before its end."""
    tools = Tools((function,), "required", parallel=False)
    question = {"role": "user", "content": f"Please use {function['name']} for me."}
    prompt = backend.encode_chat(Conversation((question,), tools))
    guide = backend.chat_format.guide(tools, None, prompt.reasoning)
    parser = backend.chat_format.parser(tools, prompt.reasoning)
    assert parser is not None
    sampling = Sampling(temperature=0.7, seed=1, max_tokens=160, guide=guide)
    names, arguments, finish = [], "", None
    async for delta in backend.generate(prompt, sampling):
        parsed = parser.push(delta)
        assert parsed.text == ""
        names += [call.name for call in parsed.calls if call.name]
        arguments += "".join(call.arguments for call in parsed.calls)
        finish = parsed.finish_reason
    assert names == [function["name"]]
    assert finish in ("tool_calls", "length")
    return arguments if finish == "tool_calls" else None


async def test_every_required_call_parses_and_validates(backend: TransformersBackend) -> None:
    signatures = _signatures()
    assert len(signatures) == SIGNATURES
    answers = await asyncio.gather(*(_called(backend, function) for function in signatures))
    finished = [(f, text) for f, text in zip(signatures, answers, strict=True) if text is not None]
    for function, text in finished:
        jsonschema.validate(json.loads(text), arguments_schema(function))
    assert len(finished) >= 0.8 * SIGNATURES, "the others had spent their tokens"
