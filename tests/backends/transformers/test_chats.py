"""Tools and formats of the real small model, from the body of a request to the answer's."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Literal

import httpx
import pytest
from openai import OpenAI, pydantic_function_tool
from pydantic import BaseModel, ConfigDict

from tests.support.client import CHAT, TEXT, Api, user
from tests.support.sdk import clients

pytestmark = pytest.mark.model


class weather(BaseModel):  # noqa: N801 - the name of the function
    """The weather in a city."""

    model_config = ConfigDict(extra="forbid")

    city: Literal["Oslo", "Paris"]
    days: Literal[1, 2, 3]


class clock(BaseModel):  # noqa: N801 - the name of the function
    """The time of day."""

    model_config = ConfigDict(extra="forbid")

    utc: bool


TOOLS: list[Any] = [pydantic_function_tool(weather), pydantic_function_tool(clock)]
NAMED = {"type": "function", "function": {"name": "clock"}}
QUESTION = "What is the weather in Oslo?"


@pytest.fixture
def sdk(api: Api) -> Iterator[OpenAI]:
    yield from clients("http://test/v1", http_client=httpx.Client(transport=api.client._transport))


def _made(calls: list[dict[str, Any]]) -> list[weather | clock]:
    kinds: dict[str, type[weather | clock]] = {"weather": weather, "clock": clock}
    return [
        kinds[c["function"]["name"]].model_validate_json(c["function"]["arguments"]) for c in calls
    ]


@pytest.mark.parametrize("temperature", [0, 1])
@pytest.mark.parametrize(
    ("choice", "parallel", "kinds"),
    [
        ("required", False, (weather, clock)),
        ("required", True, (weather, clock)),
        (NAMED, True, clock),
    ],
)
def test_a_call_is_enforced(
    api: Api, choice: Any, parallel: bool, kinds: Any, temperature: float
) -> None:
    asked: dict[str, Any] = {
        "tools": TOOLS,
        "tool_choice": choice,
        "parallel_tool_calls": parallel,
        "temperature": temperature,
        "seed": 3,
        "max_tokens": 100,
    }
    (answer,) = api.chat(QUESTION, **asked).json()["choices"]
    message = answer["message"]
    assert message["content"] is None
    made = _made(message["tool_calls"][: None if answer["finish_reason"] == "tool_calls" else -1])
    assert made
    assert all(isinstance(call, kinds) for call in made)
    if not parallel or choice is NAMED:
        assert (len(made), answer["finish_reason"]) == (1, "tool_calls")
    stream = api.chat_stream(QUESTION, **asked)
    assert stream.finish() == answer["finish_reason"]
    arguments = ["" for _ in message["tool_calls"]]
    for chunk in stream.chunks:
        for piece in chunk["choices"][0]["delta"].get("tool_calls", ()):
            arguments[piece["index"]] += piece["function"]["arguments"]
    assert arguments == [call["function"]["arguments"] for call in message["tool_calls"]]


@pytest.mark.parametrize("choice", ["auto", "none"])
def test_a_model_that_may_answer_does(api: Api, choice: str) -> None:
    """It is too small to call by itself. With `none` it is not even told of them."""
    asked = {"tools": TOOLS, "tool_choice": choice, "temperature": 0, "max_tokens": 12}
    body = api.chat("Say hello.", **asked).json()
    assert body["choices"][0]["message"]["content"]
    assert api.chat_stream("Say hello.", **asked).text() == body["choices"][0]["message"]["content"]
    plain = api.chat("Say hello.", temperature=0, max_tokens=12).json()
    told = body["usage"]["prompt_tokens"] > plain["usage"]["prompt_tokens"]
    assert told == (choice == "auto")


def test_many_answers_each_have_their_calls(api: Api) -> None:
    asked: dict[str, Any] = {
        "tools": TOOLS,
        "tool_choice": "required",
        "parallel_tool_calls": False,
    }
    body = api.chat(QUESTION, **asked, n=4, temperature=1.5, seed=1, max_tokens=80).json()
    ids = set()
    for choice in body["choices"]:
        (call,) = choice["message"]["tool_calls"]
        assert _made([call])
        ids.add(call["id"])
    assert len(ids) == 4


def test_the_result_of_a_call_is_answered(api: Api) -> None:
    asked: dict[str, Any] = {"tools": TOOLS, "max_tokens": 60, "temperature": 0}
    message = api.chat(QUESTION, **asked, tool_choice=NAMED).json()["choices"][0]["message"]
    result = {
        "role": "tool",
        "tool_call_id": message["tool_calls"][0]["id"],
        "content": "It is 9:30.",
    }
    turns = [
        {"role": "developer", "content": "Be brief."},
        *user("What time is it?"),
        message,
        result,
    ]
    answer = api.post(CHAT, {"messages": turns, **asked, "tool_choice": "none"}).json()
    assert "9:30" in answer["choices"][0]["message"]["content"]


FORMATS: list[tuple[dict[str, Any], str]] = [
    ({"guided_regex": "[ab]{3}"}, "[ab]{3}"),
    ({"guided_choice": ["yes.", "no (never)"]}, r"yes\.|no \(never\)"),
    ({"guided_grammar": 'root ::= "red" | "blue"'}, "red|blue"),
    ({"structured_outputs": {"json": {"type": "boolean"}}}, "true|false"),
]


@pytest.mark.parametrize(("fields", "allowed"), FORMATS)
def test_an_answer_has_the_form_that_was_asked_for(
    api: Api, fields: dict[str, Any], allowed: str
) -> None:
    chat = api.chat("Answer.", **fields, max_tokens=16).json()["choices"][0]["message"]["content"]
    text = api.complete("Answer:", **fields, max_tokens=16).json()["choices"][0]["text"]
    assert re.fullmatch(allowed, chat)
    assert re.fullmatch(allowed, text)


def test_tools_and_a_schema_together_give_one_of_both(api: Api) -> None:
    schema = {
        "type": "json_schema",
        "json_schema": {"name": "w", "schema": weather.model_json_schema()},
    }
    asked: dict[str, Any] = {"tools": TOOLS, "response_format": schema, "max_tokens": 80}
    for seed in range(3):
        (choice,) = api.chat(QUESTION, **asked, seed=seed).json()["choices"]
        message = choice["message"]
        if calls := message.get("tool_calls"):
            assert _made(calls[: None if choice["finish_reason"] == "tool_calls" else -1])
        else:
            weather.model_validate_json(message["content"])


def test_openais_client_parses(sdk: OpenAI) -> None:
    asked: Any = {"model": "smol", "messages": user(QUESTION), "max_tokens": 80}
    parsed = sdk.chat.completions.parse(**asked, response_format=weather)
    assert isinstance(parsed.choices[0].message.parsed, weather)
    with sdk.chat.completions.stream(
        **asked, tools=TOOLS, tool_choice="required", parallel_tool_calls=False
    ) as stream:
        final = stream.get_final_completion()
    (call,) = final.choices[0].message.tool_calls or []
    assert isinstance(call.function.parsed_arguments, weather | clock)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"guided_regex": "("}, "guided_regex"),
        ({"guided_grammar": 'root ::= ("a"'}, "guided_grammar"),
        ({"structured_outputs": {"json": {"type": "nothing"}}}, "structured_outputs.json"),
        (
            {
                "tools": [
                    {
                        "type": "function",
                        "function": {
                            "name": "f",
                            "strict": True,
                            "parameters": {"type": "object", "properties": {"a": {"pattern": "("}}},
                        },
                    }
                ],
                "tool_choice": "required",
            },
            "tools",
        ),
    ],
)
def test_what_cannot_be_obeyed_is_a_400_about_its_field(
    api: Api, fields: dict[str, Any], param: str
) -> None:
    for more in ({}, {"stream": True}):
        response = api.chat("Hi.", **fields, **more)
        assert response.status_code == 400, response.text
        assert response.json()["error"]["param"] == param
    if "tools" not in fields:
        assert api.post(TEXT, {"prompt": "a", **fields}).json()["error"]["param"] == param


def test_a_plain_chat_is_as_it_was(api: Api) -> None:
    body = api.chat("Say hello.", temperature=0, max_tokens=8).json()
    assert json.loads(json.dumps(body["choices"][0]["message"])).keys() == {
        "role",
        "content",
        "refusal",
        "annotations",
    }
