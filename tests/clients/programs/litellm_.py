"""`litellm`, which reaches servers like this one as `openai/MODEL`."""

import json

import litellm
from driven import (
    BASE,
    CAPITAL,
    ITALY,
    KEY,
    LIMIT,
    PERSON,
    SYSTEM,
    TEXTS,
    URL,
    WEATHER,
    serve,
    weather,
)
from pydantic import BaseModel

FUNCTION = {
    "name": "weather",
    "description": "The weather in a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}


class Person(BaseModel):
    name: str
    age: int


def ask(text):
    return [{"role": "user", "content": text}]


def complete(model, messages, **fields):
    return litellm.completion(
        model=f"openai/{model}",
        api_base=URL,
        api_key=KEY,
        messages=messages,
        temperature=0,
        max_tokens=LIMIT,
        **fields,
    )


def chat(model):
    messages = [{"role": "system", "content": SYSTEM}, *ask(CAPITAL)]
    return {"text": complete(model, messages).choices[0].message.content}


def stream(model):
    chunks = list(
        complete(model, ask(CAPITAL), stream=True, stream_options={"include_usage": True})
    )
    pieces = [
        c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content
    ]
    return {"pieces": pieces, "tokens": chunks[-1].usage.completion_tokens}


def tools(model):
    messages = ask(WEATHER)
    tool = {"type": "function", "function": FUNCTION}
    fields = {"tools": [tool], "tool_choice": "required", "parallel_tool_calls": False}
    message = complete(model, messages, **fields).choices[0].message
    calls = [json.loads(call.function.arguments) for call in message.tool_calls]
    messages.append(message)
    for call, arguments in zip(message.tool_calls, calls, strict=True):
        result = {"role": "tool", "tool_call_id": call.id, "content": weather(**arguments)}
        messages.append(result)
    last = complete(model, messages, tools=[tool], tool_choice="none").choices[0].message
    return {"calls": calls, "text": last.content}


def schema(model):
    answer = complete(model, ask(PERSON), response_format=Person).choices[0].message.content
    return {"object": Person.model_validate_json(answer).model_dump()}


def responses(model):
    answer = litellm.responses(
        model=f"openai/{model}",
        api_base=URL,
        api_key=KEY,
        input=CAPITAL,
        temperature=0,
        max_output_tokens=LIMIT,
    )
    return {"text": answer.output_text}


def messages(model):
    answer = litellm.completion(
        model=f"anthropic/{model}",
        api_base=BASE,
        api_key=KEY,
        messages=ask(CAPITAL),
        temperature=0,
        max_tokens=LIMIT,
    )
    return {"text": answer.choices[0].message.content}


def embeddings(model):
    answer = litellm.embedding(model=f"openai/{model}", api_base=URL, api_key=KEY, input=TEXTS)
    return {"vectors": [item["embedding"] for item in answer.data]}


def switch(model, other):
    turn = ask(CAPITAL)
    first = complete(model, turn)
    turn += [first.choices[0].message, *ask(ITALY)]
    second = complete(other, turn)
    return {"texts": [answer.choices[0].message.content for answer in (first, second)]}


serve(
    chat=chat,
    cold=chat,
    stream=stream,
    tools=tools,
    schema=schema,
    responses=responses,
    messages=messages,
    embeddings=embeddings,
    switch=switch,
)
