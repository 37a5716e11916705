"""schemathesis on our own /openapi.json: generated requests, right and wrong ones.

Whatever is sent, the answer is one that the document describes: its status, its media type, its
schema; never a 5xx, since an echo model is ready and nothing times out. What the document allows
is accepted or refused for a reason that a schema cannot express; what it forbids is a 400. Each
answer goes through the checks of `tests.support.client` too, OpenAI's schemas among them.
"""

from __future__ import annotations

import copy
import json
from collections import Counter
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from jsonschema import Draft202012Validator
from schemathesis import GenerationMode

from llm_serve.api.openapi import document
from tests.support.client import CHAT, TEXT, Api, check, parse_stream

READS = ("/healthz", "/v1/models", "/v1/models/{model_id}", "/openapi.json")
EXAMPLES = {GenerationMode.POSITIVE: 150, GenerationMode.NEGATIVE: 250}
"""Of each operation; the same ones every time."""
BEYOND_SCHEMA = {"model_not_found", "unsupported_parameter", "context_length_exceeded"}
CROSS_FIELD = {"stream_options", "top_logprobs", "logit_bias"}


def _document_with_known_models() -> dict[str, Any]:
    """Ours, but that it names the models: else hardly a generated request would name one."""
    ours = copy.deepcopy(document())
    for name in ("ChatRequest", "CompletionRequest"):
        properties = ours["components"]["schemas"][name]["properties"]
        properties["model"] = {"enum": ["echo/a", "echo/b", None]}
    return ours


SCHEMA = schemathesis.openapi.from_dict(_document_with_known_models())


def _fuzz(api: Api, method: str, path: str, mode: GenerationMode, judge: Any) -> None:
    @settings(
        max_examples=EXAMPLES[mode],
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(SCHEMA[path][method].as_strategy(generation_mode=mode))
    def fuzz(case: schemathesis.Case) -> None:
        sent = case.as_transport_kwargs(base_url="http://test")
        body = json.dumps(_plain(sent["json"])) if "json" in sent else sent.get("data")
        response = check(
            api.client.request(
                method, sent["url"], params=sent.get("params"), headers=sent["headers"],
                content=body.encode() if isinstance(body, str) else body,
            )
        )  # fmt: skip
        _is_described(path, method, response)
        judge(_plain(sent.get("json")), response)

    fuzz()


def _plain(value: Any) -> Any:
    """1 in place of 1.0: to JSON Schema both are integers, the app wants those without a point."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


@pytest.mark.parametrize("path", READS)
def test_reading(api: Api, path: str) -> None:
    _fuzz(api, "GET", path, GenerationMode.POSITIVE, lambda body, response: None)


@pytest.mark.parametrize("path", [CHAT, TEXT])
def test_what_the_document_allows(api: Api, path: str) -> None:
    seen: Counter[int] = Counter()

    def judge(body: Any, response: httpx.Response) -> None:
        seen[response.status_code] += 1
        if response.status_code == 200:
            return
        error = response.json()["error"]
        cross_field = error["code"] == "invalid_request" and error["param"] in CROSS_FIELD
        assert cross_field or error["code"] in BEYOND_SCHEMA, (body, error)

    _fuzz(api, "POST", path, GenerationMode.POSITIVE, judge)
    assert set(seen) == {200, 400}
    assert seen[200] > 10, "hardly anything was accepted, so hardly anything was tried"


@pytest.mark.parametrize("path", [CHAT, TEXT])
def test_what_the_document_forbids(api: Api, path: str) -> None:
    name = "ChatRequest" if path == CHAT else "CompletionRequest"
    components = document()["components"]
    allowed = Draft202012Validator({**components["schemas"][name], "components": components})
    refused = 0

    def judge(body: Any, response: httpx.Response) -> None:
        nonlocal refused
        refused += response.status_code == 400
        if not allowed.is_valid(body):
            assert response.status_code == 400, body

    _fuzz(api, "POST", path, GenerationMode.NEGATIVE, judge)
    assert refused > 100


def _is_described(path: str, method: str, response: httpx.Response) -> None:
    status = str(response.status_code)
    assert response.status_code < 500, response.text
    described = document()["paths"][path][method.lower()]["responses"]
    assert status in described, f"{status} is not described: {response.text}"
    media_type = response.headers["content-type"].partition(";")[0]
    content = described[status]["content"]
    assert media_type in content
    if media_type == "text/event-stream":
        assert parse_stream(response).done
        return
    schema = {**content[media_type]["schema"], "components": document()["components"]}
    Draft202012Validator(schema).validate(response.json())
