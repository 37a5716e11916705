"""Generated requests to every plain route: see `tests.support.fuzz`.

An echo model is ready and nothing times out. What the document allows is accepted, or refused for a
reason that a schema cannot express; what it forbids is a 400.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator
from schemathesis import GenerationMode

from llm_serve.api.schemas.openapi import document
from tests.support.client import CHAT, RESPONSES, TEXT, Api
from tests.support.fuzz import Fuzz, accept

READS = (
    *("/healthz", "/v1/models", "/v1/models/{model_id}", "/openapi.json"),
    "/v1/responses/{response_id}",
)
POSITIVE, NEGATIVE, NEGATIVE_RESPONSES = 150, 250, 80
"""Examples of each operation; wrong ones of a large schema take long to make."""
BEYOND_SCHEMA = {
    *("model_not_found", "unsupported_parameter", "context_length_exceeded"),
    "previous_response_not_found",
}
CROSS_FIELD = {
    *("stream_options", "top_logprobs", "logit_bias", "tools", "tool_choice", "messages"),
    "input",
    *("chat_template_kwargs", "response_format", "structured_outputs"),
    *("guided_json", "guided_regex", "guided_choice", "guided_grammar"),
}
REQUESTS = {CHAT: "ChatRequest", TEXT: "CompletionRequest", RESPONSES: "ResponsesRequest"}
FUZZ = Fuzz(document(), tuple(REQUESTS.values()), {"model": {"enum": ["echo/a", "echo/b", None]}})


@pytest.mark.parametrize("path", READS)
def test_reading(api: Api, path: str) -> None:
    FUZZ.run(api, "GET", path, GenerationMode.POSITIVE, POSITIVE, accept)


@pytest.mark.parametrize("path", REQUESTS)
def test_what_the_document_allows(api: Api, path: str) -> None:
    seen: Counter[int] = Counter()

    def judge(body: Any, response: httpx.Response) -> None:
        seen[response.status_code] += 1
        if response.status_code == 200:
            return
        error = response.json()["error"]
        field = re.split(r"[.\[]", error["param"] or "")[0]
        cross_field = error["code"] == "invalid_request" and field in CROSS_FIELD
        assert cross_field or error["code"] in BEYOND_SCHEMA, (body, error)

    FUZZ.run(api, "POST", path, GenerationMode.POSITIVE, POSITIVE, judge)
    assert set(seen) == {200, 400}
    assert seen[200] > 10, "hardly anything was accepted, so hardly anything was tried"


@pytest.mark.parametrize("path", REQUESTS)
def test_what_the_document_forbids(api: Api, path: str) -> None:
    components = FUZZ.document["components"]
    schema = components["schemas"][REQUESTS[path]]
    allowed = Draft202012Validator({**schema, "components": components})
    refused = 0

    def judge(body: Any, response: httpx.Response) -> None:
        nonlocal refused
        refused += response.status_code == 400
        if not allowed.is_valid(body):
            assert response.status_code == 400, body

    examples = NEGATIVE_RESPONSES if path == RESPONSES else NEGATIVE
    FUZZ.run(api, "POST", path, GenerationMode.NEGATIVE, examples, judge)
    assert refused > 0.4 * examples
