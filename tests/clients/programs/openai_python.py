"""The `openai` package."""

import json

from driven import CAPITAL, ITALY, KEY, LIMIT, PERSON, SYSTEM, TEXTS, URL, WEATHER, serve, weather
from openai import OpenAI
from pydantic import BaseModel

client = OpenAI(base_url=URL, api_key=KEY)
FUNCTION = {
    "name": "weather",
    "description": "The weather in a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
}
TOOL = {"type": "function", "function": FUNCTION}


class Person(BaseModel):
    name: str
    age: int


def user(text):
    return [{"role": "user", "content": text}]


def complete(model, messages, **fields):
    return client.chat.completions.create(
        model=model, messages=messages, temperature=0, max_tokens=LIMIT, **fields
    )


def chat(model):
    return {"text": complete(model, user(CAPITAL)).choices[0].message.content}


def stream(model):
    chunks = list(
        complete(model, user(CAPITAL), stream=True, stream_options={"include_usage": True})
    )
    pieces = [
        c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content
    ]
    return {"pieces": pieces, "tokens": chunks[-1].usage.completion_tokens}


def developer(model):
    messages = [{"role": "developer", "content": SYSTEM}, *user(CAPITAL)]
    return {"text": complete(model, messages).choices[0].message.content}


def tools(model):
    messages = user(WEATHER)
    message = (
        complete(model, messages, tools=[TOOL], tool_choice="required", parallel_tool_calls=False)
        .choices[0]
        .message
    )
    calls = [json.loads(call.function.arguments) for call in message.tool_calls]
    messages.append(message)
    for call, arguments in zip(message.tool_calls, calls, strict=True):
        result = {"role": "tool", "tool_call_id": call.id, "content": weather(**arguments)}
        messages.append(result)
    last = complete(model, messages, tools=[TOOL], tool_choice="none").choices[0].message
    return {"calls": calls, "text": last.content}


def tools_stream(model):
    choice = {"type": "function", "function": {"name": "weather"}}
    with client.chat.completions.stream(
        model=model,
        messages=user(WEATHER),
        temperature=0,
        max_tokens=LIMIT,
        tools=[TOOL],
        tool_choice=choice,
    ) as events:
        pieces = [e.arguments_delta for e in events if e.type.endswith("arguments.delta")]
        call = events.get_final_completion().choices[0].message.tool_calls[0]
    return {"pieces": pieces, "calls": [json.loads(call.function.arguments)]}


def schema(model):
    completion = client.chat.completions.parse(
        model=model, messages=user(PERSON), temperature=0, response_format=Person
    )
    return {"object": completion.choices[0].message.parsed.model_dump()}


def schema_json(model):
    messages = [{"role": "system", "content": "Answer as JSON."}, *user(PERSON)]
    answer = complete(model, messages, response_format={"type": "json_object"})
    return {"json": json.loads(answer.choices[0].message.content)}


def responses(model):
    response = client.responses.create(
        model=model, instructions=SYSTEM, input=CAPITAL, temperature=0, max_output_tokens=LIMIT
    )
    return {"text": response.output_text}


def responses_stream(model):
    with client.responses.stream(
        model=model, input=CAPITAL, temperature=0, max_output_tokens=LIMIT
    ) as events:
        pieces = [e.delta for e in events if e.type == "response.output_text.delta"]
        usage = events.get_final_response().usage
    return {"pieces": pieces, "tokens": usage.output_tokens}


def responses_tools(model):
    tool = {"type": "function", "strict": True, **FUNCTION}
    turn = user(WEATHER)
    fields = {"model": model, "temperature": 0, "max_output_tokens": LIMIT, "tools": [tool]}
    first = client.responses.create(
        input=turn, tool_choice="required", parallel_tool_calls=False, **fields
    )
    turn += first.output
    calls = []
    for item in first.output:
        if item.type == "function_call":
            calls.append(json.loads(item.arguments))
            output = weather(**calls[-1])
            turn.append({"type": "function_call_output", "call_id": item.call_id, "output": output})
    last = client.responses.create(input=turn, tool_choice="none", **fields)
    return {"calls": calls, "text": last.output_text}


def responses_schema(model):
    response = client.responses.parse(model=model, input=PERSON, temperature=0, text_format=Person)
    return {"object": response.output_parsed.model_dump()}


def embeddings(model):
    answer = client.embeddings.create(model=model, input=TEXTS)
    return {"vectors": [item.embedding for item in answer.data]}


def switch(model, other):
    messages = user(CAPITAL)
    first = complete(model, messages).choices[0].message
    messages += [first, *user(ITALY)]
    second = complete(other, messages)
    return {
        "texts": [first.content, second.choices[0].message.content],
        "models": [model, second.model],
    }


serve(
    chat=chat,
    cold=chat,
    stream=stream,
    cold_stream=stream,
    developer=developer,
    tools=tools,
    tools_stream=tools_stream,
    schema=schema,
    schema_json=schema_json,
    responses=responses,
    responses_stream=responses_stream,
    responses_tools=responses_tools,
    responses_schema=responses_schema,
    cold_responses=responses,
    embeddings=embeddings,
    switch=switch,
)
