"""Generated requests to the Messages routes and those that show tokens; see `tests.api.test_fuzz`.
What the document allows is accepted, or refused for a reason that a schema cannot express."""

from __future__ import annotations

from collections import Counter
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator
from schemathesis import GenerationMode

from llm_serve.api.schemas.openapi import document
from tests.support.client import COUNT, MESSAGES, Api
from tests.support.fuzz import Fuzz

POSITIVE, NEGATIVE = 60, 40
"""Examples of each operation."""
REQUESTS = (MESSAGES, COUNT, "/tokenize", "/detokenize")
BODIES = (
    *("MessagesRequest", "CountTokensRequest"),
    *("TokenizeTextRequest", "TokenizeChatRequest", "DetokenizeRequest"),
)
BEYOND_SCHEMA = {"unsupported_parameter", "context_length_exceeded"}
CROSS_FIELD = ("thinking", "tool", "messages", "output_format", "chat_template_kwargs", "continue")
"""What a field begins with that is wrong by another, or by a kind that no schema names."""
FUZZ = Fuzz(document(), BODIES, {"model": {"enum": ["plain", "thinker"]}})


@pytest.mark.parametrize("path", REQUESTS)
def test_what_the_document_allows(api: Api, path: str) -> None:
    seen: Counter[int] = Counter()

    def judge(body: Any, response: httpx.Response) -> None:
        seen[response.status_code] += 1
        if response.status_code == 200:
            return
        error = response.json()["error"]
        cross_field = (error["param"] or "").startswith(CROSS_FIELD)
        assert cross_field or error["code"] in BEYOND_SCHEMA, (body, error)

    FUZZ.run(api, "POST", path, GenerationMode.POSITIVE, POSITIVE, judge)
    assert seen[200] > 10, "hardly anything was accepted, so hardly anything was tried"


@pytest.mark.parametrize("path", REQUESTS)
def test_what_the_document_forbids(api: Api, path: str) -> None:
    content = FUZZ.document["paths"][path]["post"]["requestBody"]["content"]
    schema = content["application/json"]["schema"]
    allowed = Draft202012Validator({**schema, "components": FUZZ.document["components"]})
    refused = 0

    def judge(body: Any, response: httpx.Response) -> None:
        nonlocal refused
        refused += response.status_code == 400
        if not allowed.is_valid(body):
            assert response.status_code == 400, body

    FUZZ.run(api, "POST", path, GenerationMode.NEGATIVE, NEGATIVE, judge)
    assert refused > NEGATIVE // 3
