"""The real small model, which was taught to write JSON and does not always."""

from __future__ import annotations

import asyncio
import json
import re

import pytest
from jsonschema import Draft202012Validator

from llm_serve.backends.transformers.backend import TransformersBackend
from llm_serve.sampling import Guide

from ...conftest import Answer, Greedy, ask, chat
from .random_schemas import random_schemas

pytestmark = pytest.mark.model

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 30},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "likes": {"type": "array", "items": {"enum": ["art", "music", "tea"]}, "maxItems": 2},
    },
    "required": ["name", "age", "likes"],
    "additionalProperties": False,
}


async def test_each_kind_of_guide(backend: TransformersBackend, by_generate: Greedy) -> None:
    """Side by side, and beside one that has none."""
    person = chat(backend, "Describe a person as JSON with name and age.")
    question = chat(backend, "Is the sky blue? Answer yes or no.")
    guides = [
        (person, Guide()),
        (person, Guide("json_schema", json.dumps(PERSON))),
        (question, Guide("regex", "(yes|no), because [a-z ]{10,40}\\.")),
        (question, Guide("grammar", 'root ::= "Answer: " word\nword ::= "yes" | "no"')),
        (question, Guide("lark", 'start: "So " /[^.]{5,30}/ "."', after="blue")),
    ]
    asked = [ask(backend, prompt, guide=guide, max_tokens=120) for prompt, guide in guides]
    plain, anything, held, regex, grammar, after = await asyncio.gather(
        ask(backend, question, max_tokens=24), *asked
    )
    assert plain.text == by_generate(question, 24)
    assert isinstance(json.loads(anything.text), dict)
    Draft202012Validator(PERSON).validate(json.loads(held.text))
    assert re.fullmatch(guides[2][1].text, regex.text)
    assert grammar.text in ("Answer: yes", "Answer: no")
    assert re.fullmatch(r"(?s).*?blue[ \n]{0,2}So [^.]{5,30}\.", after.text)
    assert {a.finish_reason for a in (anything, held, regex, grammar, after)} == {"stop"}


async def test_finished_answers_to_random_schemas_are_valid(backend: TransformersBackend) -> None:
    schemas = [schema for schema, _ in random_schemas(200)[::5]]
    prompts = [chat(backend, f"Write JSON like this: {json.dumps(s)[:200]}") for s in schemas]
    answers: list[Answer] = await asyncio.gather(
        *(
            ask(
                backend,
                prompt,
                guide=Guide("json_schema", json.dumps(schema)),
                temperature=1.0,
                seed=seed,
                max_tokens=80,
            )
            for seed, (prompt, schema) in enumerate(zip(prompts, schemas, strict=True))
        )
    )
    finished = [(s, a) for s, a in zip(schemas, answers, strict=True) if a.finish_reason == "stop"]
    for schema, answer in finished:
        Draft202012Validator(schema).validate(json.loads(answer.text))
    assert len(finished) > len(schemas) * 3 / 4


async def test_what_is_cut_says_so(backend: TransformersBackend) -> None:
    guide = Guide("json_schema", json.dumps({"type": "array", "minItems": 500}))
    answer = await ask(backend, chat(backend, "Count."), guide=guide, max_tokens=12)
    assert (answer.finish_reason, answer.tokens) == ("length", 12)
