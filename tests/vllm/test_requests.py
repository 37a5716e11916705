"""What vLLM's own server can do, on our wire: every answer is checked against OpenAI's schemas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llm_serve.errors import InvalidRequest, PromptTooLong, UnknownModel, UnsupportedParameter
from tests.support.client import CHAT, TEXT, Api, refused, user
from tests.vllm.conftest import ADAPTER, MODEL

pytestmark = pytest.mark.vllm

WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "strict": True,
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Paris", "Oslo"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
FORCED = {"type": "function", "function": {"name": "get_weather"}}
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


def test_a_plain_answer_and_its_stream_agree(api: Api) -> None:
    asked = {"temperature": 0, "max_tokens": 24}
    whole = api.chat("Name the four seasons.", **asked).json()
    stream = api.chat_stream("Name the four seasons.", **asked)
    assert stream.text() == whole["choices"][0]["message"]["content"]
    assert whole["usage"]["completion_tokens"] <= 24


def test_what_continues_a_message_is_the_assistants(api: Api) -> None:
    """vLLM's server says `user` here, which no OpenAI client takes."""
    asked = {"add_generation_prompt": False, "max_tokens": 2}
    body = api.chat("Say hello.", **asked).json()
    assert body["choices"][0]["message"]["role"] == "assistant"
    deltas = [
        choice["delta"]
        for chunk in api.chat_stream("Say hello.", **asked).chunks
        for choice in chunk["choices"]
    ]
    assert {delta["role"] for delta in deltas if "role" in delta} == {"assistant"}


@pytest.mark.parametrize("choice", [FORCED, "required"])
def test_a_tool_call_is_forced(api: Api, choice: Any) -> None:
    asked = {"tools": [WEATHER], "tool_choice": choice, "temperature": 0, "max_tokens": 64}
    body = api.chat("What is the weather in Oslo?", **asked).json()
    message = body["choices"][0]["message"]
    (call,) = message["tool_calls"]
    assert message["content"] is None
    assert call["function"]["name"] == "get_weather"
    assert json.loads(call["function"]["arguments"])["city"] in ("Paris", "Oslo")
    stream = api.chat_stream("What is the weather in Oslo?", **asked)
    pieces = [
        piece["function"]
        for chunk in stream.chunks
        for choice in chunk["choices"]
        for piece in choice["delta"].get("tool_calls", ())
    ]
    assert "".join(p.get("name") or "" for p in pieces) == "get_weather"
    streamed = json.loads("".join(p.get("arguments") or "" for p in pieces))
    assert streamed["city"] in ("Paris", "Oslo")  # vLLM lays the JSON out anew only when whole


def test_a_forced_call_is_held_to_parameters_that_are_not_strict(api: Api) -> None:
    """vLLM by itself would let the model write any JSON."""
    parameters = {
        "type": "object",
        "properties": {"zeal": {"enum": [3, 5]}, "omen": {"const": "quartz"}},
        "required": ["zeal", "omen"],
    }
    function = {"type": "function", "function": {"name": "f", "parameters": parameters}}
    named = {"type": "function", "function": {"name": "f"}}
    for choice in (named, "required"):
        asked = {"tools": [function], "tool_choice": choice, "parallel_tool_calls": False}
        body = api.chat("What is the weather in Oslo?", temperature=0, max_tokens=128, **asked)
        (call,) = body.json()["choices"][0]["message"]["tool_calls"]
        arguments = json.loads(call["function"]["arguments"])
        assert arguments["zeal"] in (3, 5)
        assert arguments == {"zeal": arguments["zeal"], "omen": "quartz"}


def test_the_answer_of_a_tool_is_read(api: Api) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        {"role": "developer", "content": "Be brief."},
        *user("Call f."),
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "42"},
    ]
    body = api.post(CHAT, {"messages": messages, "max_tokens": 4}).json()
    assert body["usage"]["completion_tokens"] in range(1, 5)


def test_a_json_schema_is_obeyed(api: Api) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}}
    asked = {"response_format": schema, "max_tokens": 64, "temperature": 0}
    text = api.chat("Describe a person.", **asked).json()["choices"][0]["message"]["content"]
    person = json.loads(text)
    assert set(person) == {"name", "age"}
    assert isinstance(person["age"], int)
    assert api.chat_stream("Describe a person.", **asked).text() == text


@pytest.mark.parametrize(
    ("outputs", "allowed"),
    [
        ({"choice": ["yes", "no"]}, ("yes", "no")),
        ({"regex": "[ab]{3}"}, tuple(a + b + c for a in "ab" for b in "ab" for c in "ab")),
        ({"grammar": 'root ::= "red" | "blue"'}, ("red", "blue")),
    ],
)
def test_a_grammar_is_obeyed(api: Api, outputs: dict[str, Any], allowed: tuple[str, ...]) -> None:
    ((kind, value),) = outputs.items()
    for fields in ({"structured_outputs": outputs}, {f"guided_{kind}": value}):
        body = api.chat("Answer.", **fields, max_tokens=16).json()
        assert body["choices"][0]["message"]["content"] in allowed


def test_logprobs_are_of_the_tokens_that_were_chosen(api: Api) -> None:
    asked = {"logprobs": True, "top_logprobs": 3, "temperature": 0, "max_tokens": 6}
    choice = api.chat("Say hello.", **asked).json()["choices"][0]
    entries = choice["logprobs"]["content"]
    assert "".join(entry["token"] for entry in entries) == choice["message"]["content"]
    for entry in entries:
        assert len(entry["top_logprobs"]) == 3
        assert entry["top_logprobs"][0]["logprob"] == pytest.approx(entry["logprob"], abs=1e-4)


def test_the_engines_own_fields(api: Api) -> None:
    banned = api.chat("Count: 1 2 3", bad_words=[" 4", "4"], max_tokens=12, temperature=0).json()
    assert "4" not in banned["choices"][0]["message"]["content"]
    at_least = api.chat("Say hi.", min_tokens=10, max_tokens=12).json()
    assert at_least["usage"]["completion_tokens"] >= 10
    echoed = api.complete("One, two,", echo=True, max_tokens=2).json()
    assert echoed["choices"][0]["text"].startswith("One, two,")


def test_n_seed_and_bias(api: Api) -> None:
    asked = {"n": 3, "seed": 5, "max_tokens": 8, "temperature": 1}
    first = [c["message"]["content"] for c in api.chat("Tell a story.", **asked).json()["choices"]]
    again = [c["message"]["content"] for c in api.chat("Tell a story.", **asked).json()["choices"]]
    assert first == again
    assert len(set(first)) > 1
    biased = api.complete("The", logit_bias={"260": 100}, max_tokens=3, temperature=0).json()
    assert len(set(biased["choices"][0]["text"].split())) == 1


def test_a_prompt_seen_before_is_counted_as_cached(api: Api) -> None:
    text = "word " * 300
    api.chat(text, max_tokens=1)
    usage = api.chat(text, max_tokens=1).json()["usage"]
    assert 0 < usage["prompt_tokens_details"]["cached_tokens"] <= usage["prompt_tokens"]


def test_an_adapter_is_a_model_of_its_own(api: Api) -> None:
    listed = {m["id"]: m for m in api.get("/v1/models").json()["data"]}
    assert listed[ADAPTER]["parent"] == MODEL
    assert listed[ADAPTER]["loaded"]
    asked = {"temperature": 0, "max_tokens": 16}
    base = api.chat("Say hello.", **asked).json()
    for extra in ({}, {"min_tokens": 1}):  # rendered here, and by the engine's server
        adapted = api.chat("Say hello.", model=ADAPTER, **asked, **extra).json()
        assert adapted["model"] == ADAPTER
        assert (
            adapted["choices"][0]["message"]["content"] != base["choices"][0]["message"]["content"]
        )


def test_tokenize_and_back(api: Api) -> None:
    body = api.client.post("/tokenize", json={"prompt": "Hello world"}).json()
    assert body["count"] == len(body["tokens"]) > 0
    text = api.client.post("/detokenize", json={"tokens": body["tokens"]}).json()["prompt"]
    assert text == "Hello world"


def test_what_the_model_has_no_engine_for_is_refused(api: Api) -> None:
    for path, body in (
        ("/v1/embeddings", {"input": "x"}),
        ("/v1/rerank", {"query": "x", "documents": ["y"]}),
    ):
        assert path in refused(api.post(path, body), UnsupportedParameter, "model")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": 2.1}, "temperature"),
        ({"max_tokens": 8193}, "max_tokens"),
        ({"tools": []}, "tools"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
        ({"tool_choice": "sometimes"}, "tool_choice"),
        ({"min_tokens": -1}, "min_tokens"),
        ({"nonsense": 1}, "nonsense"),
        ({"structured_outputs": {"regex": "("}}, None),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"structured_outputs": {"nothing": 1}}, "structured_outputs.nothing"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"stop_token_ids": ["x"]}, None),
        ({"allowed_token_ids": [10**9]}, None),
    ],
)
def test_what_is_wrong_is_a_400_that_says_so(
    api: Api, folder: Path, fields: dict[str, Any], param: str | None
) -> None:
    response = api.chat("Hi.", **fields)
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    if param is not None:
        assert error["param"] == param
    assert str(folder) not in error["message"]
    assert "site-packages" not in error["message"]


def test_other_models_and_long_prompts(api: Api) -> None:
    refused(api.chat("Hi.", model="another"), UnknownModel, "model")
    refused(api.chat("word " * 2000), PromptTooLong, "messages")
    asked = {"tools": [WEATHER], "tool_choice": FORCED}
    response = api.chat("word " * 2000, **asked)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == PromptTooLong.code
    refused(api.complete([10**8]), InvalidRequest, "prompt")


def test_a_picture_is_not_fetched_from_the_network(api: Api) -> None:
    part = {"type": "image_url", "image_url": {"url": "http://127.0.0.1:9/secret.png"}}
    response = api.post(CHAT, {"messages": [{"role": "user", "content": [part]}]})
    assert response.status_code == 400
    refused(
        api.post(TEXT, {"prompt": "x", "prompt_embeds": "AA=="}), InvalidRequest, "prompt_embeds"
    )
