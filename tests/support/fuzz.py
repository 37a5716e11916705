"""schemathesis on an OpenAPI document of ours: generated requests, right and wrong ones.

Whatever is sent, the answer is one that the document describes: its status, its media type, its
schema; never a 5xx. Each goes through the checks of `tests.support.client` too.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import httpx
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from jsonschema import Draft202012Validator
from schemathesis import GenerationMode

from tests.support.anthropic_types import events_of, whole
from tests.support.client import MESSAGES, RESPONSES, Api, check, parse_stream
from tests.support.openai_events import parse_events

Judge = Callable[[Any, httpx.Response], None]


def accept(body: Any, response: httpx.Response) -> None:
    """Judges nothing."""


class Fuzz:
    """Sends what `document` describes, but that the bodies `narrowed` (names of schemas) have the
    fields `fields` as told there: a generated request would hardly name a model otherwise."""

    def __init__(
        self, document: dict[str, Any], narrowed: tuple[str, ...], fields: dict[str, Any]
    ) -> None:
        self.document = document
        ours = copy.deepcopy(document)
        for name in narrowed:
            ours["components"]["schemas"][name]["properties"] |= fields
        self._schema = schemathesis.openapi.from_dict(ours)

    def run(
        self, api: Api, method: str, path: str, mode: GenerationMode, examples: int, judge: Judge
    ) -> None:
        """The same `examples` every time; `judge` sees each body and its answer."""

        @settings(
            max_examples=examples,
            derandomize=True,
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        @given(self._schema[path][method].as_strategy(generation_mode=mode))
        def fuzz(case: schemathesis.Case) -> None:
            sent = case.as_transport_kwargs(base_url="http://test")
            body = json.dumps(_plain(sent["json"])) if "json" in sent else sent.get("data")
            response = check(
                api.client.request(
                    method, sent["url"], params=sent.get("params"), headers=sent["headers"],
                    content=body.encode() if isinstance(body, str) else body,
                )
            )  # fmt: skip
            self._is_described(path, method, response)
            judge(_plain(sent.get("json")), response)

        fuzz()

    def _is_described(self, path: str, method: str, response: httpx.Response) -> None:
        status = str(response.status_code)
        assert response.status_code < 500, response.text
        described = self.document["paths"][path][method.lower()]["responses"]
        assert status in described, f"{status} is not described: {response.text}"
        media_type = response.headers["content-type"].partition(";")[0]
        content = described[status]["content"]
        assert media_type in content
        if media_type == "text/event-stream":
            if path == MESSAGES:
                whole(events_of(response))
            elif path == RESPONSES:
                parse_events(response.content)
            else:
                assert parse_stream(response).done
            return
        components = self.document["components"]
        schema = {**content[media_type]["schema"], "components": components}
        Draft202012Validator(schema).validate(response.json())


def _plain(value: Any) -> Any:
    """1 in place of 1.0: to JSON Schema both are integers, the app wants those without a point."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
