"""Both OpenAPI documents and the parser say the same of a body, right or wrong, for models of
every kind; no engine runs. Bodies are whole ones, bent in one place or two."""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from llm_serve.api.parsing.parse import parse_chat, parse_completion
from llm_serve.api.schemas.openapi import document
from llm_serve.config import Config
from llm_serve.errors import InvalidRequest, UnsupportedParameter
from tests.support.client import CHAT, TEXT

PARSERS = {CHAT: parse_chat, TEXT: parse_completion}
EXTENDED = {"transformers": False, "tensorrt_llm": False, "vllm": True}
CROSS_FIELD = {
    *("stream_options", "top_logprobs", "logit_bias", "best_of", "tool_choice", "tools"),
    *("messages", "chat_template_kwargs", "response_format", "structured_outputs"),
    *("guided_json", "guided_regex", "guided_choice", "guided_grammar"),
}
"""Fields that are wrong by another or by their keys' form: no schema says so."""
SHARED: dict[str, Any] = {
    "stream": True,
    "stream_options": {"include_usage": True, "include_obfuscation": False},
    "temperature": 0.5,
    "top_p": 0.5,
    "max_tokens": 5,
    "stop": ["a", "b"],
    "n": 2,
    "seed": 4,
    "logit_bias": {"1": 2},
    "user": "u",
}
FUNCTION: dict[str, Any] = {"type": "function", "function": {"name": "f"}}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
BODIES: dict[str, dict[str, Any]] = {
    CHAT: SHARED
    | {
        "messages": [
            {"role": "system", "content": "s", "name": "n"},
            {"role": "user", "content": [{"type": "text", "text": "a"}]},
            {"role": "assistant", "content": None, "tool_calls": [CALL], "reasoning": "r"},
            {"role": "tool", "content": "a", "tool_call_id": "c"},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "a"}]},
        ],
        "tools": [FUNCTION],
        "tool_choice": FUNCTION,
        "parallel_tool_calls": False,
        "reasoning_effort": "low",
        "chat_template_kwargs": {"a": {"b": None}},
        "logprobs": True,
        "top_logprobs": 2,
        "response_format": {"type": "text"},
        "modalities": ["text"],
        "metadata": {"a": "b"},
        "store": False,
    },
    TEXT: SHARED | {"prompt": ["a", "b"], "logprobs": 2, "best_of": 2},
}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "a", "schema": {}, "strict": True}}
ALLOWED = {
    "type": "allowed_tools",
    "allowed_tools": {"mode": "required", "tools": [FUNCTION]},
}
MORE: dict[tuple[str, str], dict[str, Any]] = {
    ("transformers", CHAT): {"guided_choice": ["a", "b"]},
    ("transformers", TEXT): {"structured_outputs": {"regex": "a"}},
    ("tensorrt_llm", CHAT): {"response_format": SCHEMA, "tool_choice": ALLOWED},
    ("vllm", CHAT): {"stop_token_ids": [1]},
    ("vllm", TEXT): {"structured_outputs": {"json": {}}, "min_tokens": 1},
}
BENT = st.sampled_from(
    [
        *(None, True, False, -1, 0, 1, 1.5, 129, 2**63, "", "text", "auto", "a" * 1001),
        *([], [1], [-1], ["a"], [""], [None], [[]], [[1], ["a"]], [1, "a"], ["a"] * 129),
        *({}, {"a": 1}, {"1": 101}, {"type": "text"}, {"type": "json_object"}, {"type": "x"}),
        *(
            SCHEMA,
            FUNCTION,
            ALLOWED,
            CALL,
            [{"type": "text", "text": "a", "more": 1}],
            [{"type": "image_url"}],
        ),
    ]
)
NAMES = st.sampled_from(["tools", "name", "type", "content", "unheard of", "suffix", "(text)"])


def _places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Every member and entry, as what holds it and its key."""
    inner = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in inner:
        yield node, key
        if isinstance(value, dict | list):
            yield from _places(value)


@cache
def _documented(backend: str, path: str) -> Draft202012Validator:
    described = document(EXTENDED[backend])
    content = described["paths"][path]["post"]["requestBody"]["content"]
    schema = content["application/json"]["schema"]
    return Draft202012Validator({**schema, "components": described["components"]})


def _refusal(path: str, body: dict[str, Any], config: Config) -> InvalidRequest | None:
    try:
        PARSERS[path](body, config)
    except InvalidRequest as error:
        return error
    return None


def _beyond_schema(error: InvalidRequest | None) -> bool:
    """Whether the model cannot do it, or it is wrong by another field."""
    field = re.split(r"[.\[]", (error and error.param) or "")[0]
    return isinstance(error, UnsupportedParameter) or field in CROSS_FIELD


@pytest.mark.parametrize("path", PARSERS)
@pytest.mark.parametrize("backend", EXTENDED)
def test_what_is_documented_is_what_is_parsed(backend: str, path: str) -> None:
    config = Config.model_validate({"models": [{"id": "m", "backend": backend}]})
    seen: Counter[bool] = Counter()

    @settings(max_examples=300, derandomize=True, deadline=None, database=None)
    @given(st.data())
    def bend(data: st.DataObject) -> None:
        body = copy.deepcopy(BODIES[path] | MORE.get((backend, path), {}))
        for _ in range(data.draw(st.integers(1, 2))):
            holder, key = data.draw(st.sampled_from(list(_places(body))))
            if isinstance(holder, dict) and data.draw(st.booleans()):
                key = data.draw(NAMES | st.just(key))
            value = data.draw(BENT)
            if value is not None or key in holder or isinstance(holder, list):
                holder[key] = copy.deepcopy(value)  # an unknown null is allowed, beyond the schema
        allowed = _documented(backend, path).is_valid(body)
        error = _refusal(path, body, config)
        seen[error is None] += 1
        assert allowed == (error is None) or (allowed and _beyond_schema(error)), (body, error)

    bend()
    assert min(seen[True], seen[False]) > 10, seen
