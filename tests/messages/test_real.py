"""The Messages routes and those that show tokens with the small real model in transformers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from transformers import AutoTokenizer

from llm_serve.config import default_config
from llm_serve.errors import InvalidRequest
from llm_serve.models import resolve
from tests.support.anthropic_sdk import BASH, call_a_tool, client_of, exercise
from tests.support.anthropic_types import events_of, whole
from tests.support.client import COUNT, MESSAGES, Api, refused, user
from tests.support.default_model import entry
from tests.support.inprocess import serving

pytestmark = pytest.mark.model
MODEL = default_config().default_model.id


@pytest.fixture(scope="module")
def real() -> Iterator[Api]:
    with serving(entry(), start_s=120) as api:
        yield api


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(resolve(default_config().default_model))


def _ask(api: Api, **fields: Any) -> dict[str, Any]:
    body = {"max_tokens": 16, "temperature": 0, "messages": user("Say hello."), **fields}
    answer: dict[str, Any] = api.post(MESSAGES, body).json()
    return answer


def test_the_sdk(real: Api) -> None:
    with client_of(real) as client:
        assert exercise(client, MODEL)


ANY = {"type": "any", "disable_parallel_tool_use": True}


@pytest.mark.parametrize("choice", [ANY, {"type": "tool", "name": "Bash"}])
def test_a_call_is_enforced(real: Api, choice: dict[str, Any]) -> None:
    with client_of(real) as client:
        call_a_tool(client, MODEL, choice, extra_body={"temperature": 0})


def test_a_call_is_streamed(real: Api) -> None:
    asked = {"tools": [BASH], "tool_choice": ANY, "max_tokens": 100, "temperature": 0}
    body = {"messages": user("List the files."), **asked}
    message = whole(events_of(real.post(MESSAGES, {**body, "stream": True})))
    assert message["stop_reason"] == "tool_use"
    assert isinstance(message["content"][-1]["input"]["command"], str)


def test_a_format_is_obeyed(real: Api) -> None:
    schema = {
        "type": "object",
        "properties": {"age": {"type": "integer", "minimum": 0, "maximum": 9}},
        "required": ["age"],
        "additionalProperties": False,
    }
    output = {"format": {"type": "json_schema", "schema": schema}}
    answer = _ask(real, max_tokens=40, output_config=output)
    assert json.loads(answer["content"][0]["text"])["age"] in range(10)


def test_an_answer_goes_on_from_the_last_turn(real: Api) -> None:
    whole_text = _ask(real, messages=user("Count: one, two,"), max_tokens=12)["content"][0]["text"]
    head = whole_text[: len(whole_text) // 2].rstrip()
    said = {"role": "assistant", "content": head}
    tail = _ask(real, messages=[*user("Count: one, two,"), said], max_tokens=12)
    assert (head + tail["content"][0]["text"]).startswith(whole_text[: len(head) + 2])


def test_the_tokens_of_a_prompt(real: Api, tokenizer: Any) -> None:
    messages = [{"role": "system", "content": "Be brief."}, *user("Say hello.")]
    body = {"system": "Be brief.", "messages": user("Say hello.")}
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert real.post(COUNT, body).json() == {"input_tokens": len(ids)}
    with_tools = real.post(COUNT, {**body, "tools": [BASH]}).json()["input_tokens"]
    assert with_tools > len(ids) + 50
    usage = _ask(real, **body, tools=[BASH])["usage"]
    assert usage["input_tokens"] + usage["cache_read_input_tokens"] == with_tools
    tokenized = real.post("/tokenize", {"messages": messages, "return_token_strs": True}).json()
    assert tokenized["tokens"] == ids
    assert tokenized["token_strs"] == tokenizer.convert_ids_to_tokens(ids)
    assert tokenized["max_model_len"] == real.get(f"/v1/models/{MODEL}").json()["context_length"]
    open_ended = tokenizer.apply_chat_template(messages, tokenize=False)
    closed = real.post("/tokenize", {"messages": messages, "add_generation_prompt": False}).json()
    assert closed["tokens"] == tokenizer.encode(open_ended, add_special_tokens=False)
    assert real.post("/detokenize", {"tokens": ids}).json()["prompt"] == text


def test_a_text_as_tokens_and_back(real: Api, tokenizer: Any) -> None:
    text = "Größe 漢字 \U0001f642 <|im_end|> end"
    for special in (True, False):
        body = real.post("/tokenize", {"prompt": text, "add_special_tokens": special}).json()
        assert body["tokens"] == tokenizer.encode(text, add_special_tokens=special)
        assert body["count"] == len(body["tokens"])
    assert real.post("/detokenize", {"tokens": body["tokens"]}).json()["prompt"] == text
    refused(real.post("/detokenize", {"tokens": [len(tokenizer)]}), InvalidRequest, "tokens")
    assert real.post("/tokenize", {"prompt": ""}).json()["count"] == 0


def test_what_was_read_before_is_counted_as_cached(real: Api) -> None:
    asked = {"messages": user("word " * 200), "max_tokens": 1}
    first = _ask(real, **asked)["usage"]
    again = _ask(real, **asked)["usage"]
    assert again["cache_read_input_tokens"] > 0
    both = [u["input_tokens"] + u["cache_read_input_tokens"] for u in (first, again)]
    assert both[0] == both[1]


def test_a_stop_sequence_is_named(real: Api) -> None:
    text = _ask(real, max_tokens=12)["content"][0]["text"]
    word = text.split()[1]
    answer = _ask(real, max_tokens=12, stop_sequences=["never", word])
    assert (answer["stop_reason"], answer["stop_sequence"]) == ("stop_sequence", word)
    assert word not in answer["content"][0]["text"]
