"""The Messages routes and those that show tokens with the small real model in transformers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llm_serve.errors import InvalidRequest
from tests.backends.conftest import MODEL_ID
from tests.support.anthropic_sdk import BASH, call_a_tool, client_of, exercise
from tests.support.anthropic_types import events_of, whole
from tests.support.client import COUNT, MESSAGES, Api, refused, user

pytestmark = pytest.mark.model
ANY = {"type": "any", "disable_parallel_tool_use": True}


def _ask(api: Api, **fields: Any) -> dict[str, Any]:
    body = {"max_tokens": 16, "temperature": 0, "messages": user("Say hello."), **fields}
    answer: dict[str, Any] = api.post(MESSAGES, body).json()
    return answer


def test_the_sdk(api: Api) -> None:
    with client_of(api) as client:
        assert exercise(client, MODEL_ID)


@pytest.mark.parametrize("choice", [ANY, {"type": "tool", "name": "Bash"}])
def test_a_call_is_enforced(api: Api, choice: dict[str, Any]) -> None:
    with client_of(api) as client:
        call_a_tool(client, MODEL_ID, choice, extra_body={"temperature": 0})


def test_a_call_is_streamed(api: Api) -> None:
    asked = {"tools": [BASH], "tool_choice": ANY, "max_tokens": 100, "temperature": 0}
    body = {"messages": user("List the files."), **asked}
    message = whole(events_of(api.post(MESSAGES, {**body, "stream": True})))
    assert message["stop_reason"] == "tool_use"
    assert isinstance(message["content"][-1]["input"]["command"], str)


def test_a_format_is_obeyed(api: Api) -> None:
    schema = {
        "type": "object",
        "properties": {"age": {"type": "integer", "minimum": 0, "maximum": 9}},
        "required": ["age"],
        "additionalProperties": False,
    }
    output = {"format": {"type": "json_schema", "schema": schema}}
    answer = _ask(api, max_tokens=40, output_config=output)
    assert json.loads(answer["content"][0]["text"])["age"] in range(10)


def test_an_answer_goes_on_from_the_last_turn(api: Api) -> None:
    whole_text = _ask(api, messages=user("Count: one, two,"), max_tokens=12)["content"][0]["text"]
    head = whole_text[: len(whole_text) // 2].rstrip()
    said = {"role": "assistant", "content": head}
    tail = _ask(api, messages=[*user("Count: one, two,"), said], max_tokens=12)
    assert (head + tail["content"][0]["text"]).startswith(whole_text[: len(head) + 2])


def test_the_tokens_of_a_prompt(api: Api, tokenizer: Any) -> None:
    messages = [{"role": "system", "content": "Be brief."}, *user("Say hello.")]
    body = {"system": "Be brief.", "messages": user("Say hello.")}
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert api.post(COUNT, body).json() == {"input_tokens": len(ids)}
    with_tools = api.post(COUNT, {**body, "tools": [BASH]}).json()["input_tokens"]
    assert with_tools > len(ids) + 50
    usage = _ask(api, **body, tools=[BASH])["usage"]
    assert usage["input_tokens"] + usage["cache_read_input_tokens"] == with_tools
    tokenized = api.post("/tokenize", {"messages": messages, "return_token_strs": True}).json()
    assert tokenized["tokens"] == ids
    assert tokenized["token_strs"] == tokenizer.convert_ids_to_tokens(ids)
    assert tokenized["max_model_len"] == api.get(f"/v1/models/{MODEL_ID}").json()["context_length"]
    open_ended = tokenizer.apply_chat_template(messages, tokenize=False)
    closed = api.post("/tokenize", {"messages": messages, "add_generation_prompt": False}).json()
    assert closed["tokens"] == tokenizer.encode(open_ended, add_special_tokens=False)
    assert api.post("/detokenize", {"tokens": ids}).json()["prompt"] == text


def test_a_text_as_tokens_and_back(api: Api, tokenizer: Any) -> None:
    text = "Größe 漢字 \U0001f642 <|im_end|> end"
    for special in (True, False):
        body = api.post("/tokenize", {"prompt": text, "add_special_tokens": special}).json()
        assert body["tokens"] == tokenizer.encode(text, add_special_tokens=special)
        assert body["count"] == len(body["tokens"])
    assert api.post("/detokenize", {"tokens": body["tokens"]}).json()["prompt"] == text
    refused(api.post("/detokenize", {"tokens": [len(tokenizer)]}), InvalidRequest, "tokens")
    assert api.post("/tokenize", {"prompt": ""}).json()["count"] == 0


def test_what_was_read_before_is_counted_as_cached(api: Api) -> None:
    asked = {"messages": user("word " * 200), "max_tokens": 1}
    first = _ask(api, **asked)["usage"]
    again = _ask(api, **asked)["usage"]
    assert again["cache_read_input_tokens"] > 0
    both = [u["input_tokens"] + u["cache_read_input_tokens"] for u in (first, again)]
    assert both[0] == both[1]


def test_a_stop_sequence_is_named(api: Api) -> None:
    text = _ask(api, max_tokens=12)["content"][0]["text"]
    word = text.split()[1]
    answer = _ask(api, max_tokens=12, stop_sequences=["never", word])
    assert (answer["stop_reason"], answer["stop_sequence"]) == ("stop_sequence", word)
    assert word not in answer["content"][0]["text"]
