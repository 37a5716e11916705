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
from llm_serve.sampling import Conversation, Prompt, Sampling, Tools
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


async def _called(backend: TransformersBackend, tools: Tools, prompt: Prompt) -> str | None:
    """The arguments of the one call; None where the tokens were spent before its end."""
    guide = backend.chat_format.guide(tools, None, prompt.reasoning)
    parser = backend.chat_format.parser(tools, prompt.reasoning)
    assert parser is not None
    sampling = Sampling(temperature=0.5, seed=1, max_tokens=96, guide=guide)
    names, arguments, finish = [], "", None
    async for delta in backend.generate(prompt, sampling):
        parsed = parser.push(delta)
        assert parsed.text == ""
        names += [call.name for call in parsed.calls if call.name]
        arguments += "".join(call.arguments for call in parsed.calls)
        finish = parsed.finish_reason
    assert names == [tools.functions[0]["name"]]
    assert finish in ("tool_calls", "length")
    return arguments if finish == "tool_calls" else None


async def test_every_required_call_parses_and_validates(backend: TransformersBackend) -> None:
    """The prompt says nothing of the functions, which makes it short: the grammar does."""
    signatures = _signatures()
    assert len(signatures) == SIGNATURES
    prompt = backend.encode_text("Call:\n")
    demanded = [Tools((function,), "required", parallel=False) for function in signatures]
    answers = await asyncio.gather(*(_called(backend, tools, prompt) for tools in demanded))
    finished = [(f, text) for f, text in zip(signatures, answers, strict=True) if text is not None]
    for function, text in finished:
        jsonschema.validate(json.loads(text), arguments_schema(function))
    assert len(finished) >= 0.8 * SIGNATURES, "the others had spent their tokens"


async def test_a_function_that_the_prompt_tells_of(backend: TransformersBackend) -> None:
    cities = {"type": "string", "enum": ["Paris", "Rome"]}
    parameters = {"type": "object", "properties": {"city": cities}, "required": ["city"]}
    tools = Tools(({"name": "weather", "parameters": parameters},), "named", "weather")
    question = {"role": "user", "content": "How is the weather in Rome?"}
    prompt = backend.encode_chat(Conversation((question,), tools))
    arguments = await _called(backend, tools, prompt)
    assert arguments is not None
    assert json.loads(arguments)["city"] in cities["enum"]
