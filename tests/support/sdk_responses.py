"""What openai-python makes of `/v1/responses`, strictly validated, as its documentation shows."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types.responses import ResponseFunctionToolCall
from pydantic import BaseModel

WEATHER: dict[str, Any] = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather in a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Paris", "Oslo"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}


class Person(BaseModel):
    """Somebody."""

    name: str
    age: int


def exercise_responses(client: OpenAI, model: str, question: str) -> str:
    """Whole, streamed twice over, gone on from, looked up and deleted; returns the answer."""
    assert client._strict_response_validation
    asked: dict[str, Any] = {"model": model, "input": question, "temperature": 0}
    asked["max_output_tokens"] = 128
    whole = client.responses.create(**asked, instructions="Be brief.")
    assert whole.status == "completed"
    events = list(client.responses.create(**asked, instructions="Be brief.", stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    said = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    assert said == whole.output_text
    with client.responses.stream(**asked, instructions="Be brief.") as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert kinds[-1] == "response.completed"
    assert final.output_text == whole.output_text
    again = client.responses.create(
        model=model, input="Once more, please.", previous_response_id=final.id, max_output_tokens=8
    )
    assert again.previous_response_id == final.id
    assert again.usage is not None
    assert whole.usage is not None
    assert again.usage.output_tokens <= 8
    assert client.responses.retrieve(whole.id) == whole
    client.responses.delete(whole.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(whole.id)
    answer: str = whole.output_text
    return answer


def exercise_forms(client: OpenAI, model: str) -> None:
    """A schema is obeyed, whole and streamed, and a tool that must be called is called."""
    asked: dict[str, Any] = {"model": model, "input": "Tell me of Ada, who is 36."}
    parsed = client.responses.parse(**asked, text_format=Person, max_output_tokens=200)
    if parsed.status == "completed":
        assert isinstance(parsed.output_parsed, Person)
    with client.responses.stream(**asked, text_format=Person, max_output_tokens=200) as stream:
        last = list(stream)[-1]
    if last.type == "response.completed":
        Person.model_validate_json(last.response.output_text)
    call_a_tool(client, model, tool_choice="required", max_output_tokens=100)


def call_a_tool(client: OpenAI, model: str, **fields: Any) -> str:
    """A round trip with a tool; returns what the model says in the end."""
    asked: dict[str, Any] = {"model": model, "tools": [WEATHER]}
    question: list[Any] = [{"role": "user", "content": "What is the weather in Oslo?"}]
    first = client.responses.create(input=question, **asked, **fields)
    calls = [item for item in first.output if isinstance(item, ResponseFunctionToolCall)]
    assert calls, first.output
    assert all(json.loads(call.arguments)["city"] in ("Paris", "Oslo") for call in calls)
    assert {call.name for call in calls} == {"get_weather"}
    results = [
        {"type": "function_call_output", "call_id": call.call_id, "output": "It rains."}
        for call in calls
    ]
    last = client.responses.create(
        input=[*question, *first.output, *results], **asked, max_output_tokens=16
    )
    goes_on = client.responses.create(
        input=results, previous_response_id=first.id, **asked, max_output_tokens=16
    )
    assert last.usage is not None
    assert goes_on.usage is not None
    assert last.usage.input_tokens == goes_on.usage.input_tokens, "the same conversation"
    answer: str = last.output_text
    return answer
