"""Generated requests to the routes of vLLM's own server: see `tests.support.fuzz`.

Most of their fields are checked by the engine alone, and whatever it is sent, it lives on: nothing
is a 5xx, and it answers afterwards.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import httpx
import pytest
from schemathesis import GenerationMode

from llm_serve.api.schemas.openapi import document
from tests.support.client import CHAT, COUNT, MESSAGES, RESPONSES, TEXT, Api
from tests.support.fuzz import Fuzz
from tests.vllm.conftest import MODEL

pytestmark = [pytest.mark.model, pytest.mark.vllm]
EXAMPLES = 60
SHORT = {"type": "integer", "minimum": 1, "maximum": 3}
FUZZ = Fuzz(
    document(extended=True),
    (
        *("EngineChatRequest", "EngineCompletionRequest", "EngineRequest"),
        *("EngineMessagesRequest", "EngineCountTokensRequest", "EngineResponsesRequest"),
    ),
    {
        "model": {"const": MODEL},
        "max_tokens": SHORT,
        "max_completion_tokens": SHORT,
        "max_output_tokens": SHORT,
    },
)


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize(
    "path",
    [
        CHAT,
        TEXT,
        RESPONSES,
        MESSAGES,
        COUNT,
        "/tokenize",
        "/detokenize",
        "/v1/embeddings",
        "/v1/rerank",
    ],
)
def test_no_request_harms_the_engine(api: Api, path: str, mode: GenerationMode) -> None:
    seen: Counter[int] = Counter()

    def judge(body: Any, response: httpx.Response) -> None:
        seen[response.status_code] += 1

    FUZZ.run(api, "POST", path, mode, EXAMPLES, judge)
    assert seen[400] > 0
    assert api.chat("Say hello.", model=MODEL, max_tokens=2).status_code == 200
