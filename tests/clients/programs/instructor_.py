"""`instructor` over the `openai` package."""

import instructor
from driven import CAPITAL, KEY, LIMIT, PERSON, URL, serve
from openai import OpenAI
from pydantic import BaseModel


class Person(BaseModel):
    """A person."""

    name: str
    age: int


def create(model, messages, response_model, mode=instructor.Mode.TOOLS, **fields):
    client = instructor.from_openai(OpenAI(base_url=URL, api_key=KEY), mode=mode)
    return client.create(
        model=model,
        messages=messages,
        response_model=response_model,
        temperature=0,
        max_tokens=LIMIT,
        max_retries=0,
        **fields,
    )


def ask(text):
    return [{"role": "user", "content": text}]


def chat(model):
    return {"text": create(model, ask(CAPITAL), None).choices[0].message.content}


def schema(model, mode=instructor.Mode.TOOLS):
    return {"object": create(model, ask(PERSON), Person, mode).model_dump()}


def schema_json(model):
    return schema(model, instructor.Mode.JSON_SCHEMA)


def schema_stream(model):
    client = instructor.from_openai(OpenAI(base_url=URL, api_key=KEY))
    parts = client.create_partial(
        model=model, messages=ask(PERSON), response_model=Person, temperature=0, max_tokens=LIMIT
    )
    return {"object": list(parts)[-1].model_dump()}


def responses_schema(model):
    client = instructor.from_openai(
        OpenAI(base_url=URL, api_key=KEY), mode=instructor.Mode.RESPONSES_TOOLS
    )
    person = client.create(
        model=model,
        messages=ask(PERSON),
        response_model=Person,
        temperature=0,
        max_output_tokens=LIMIT,
    )
    return {"object": person.model_dump()}


def switch(model, other):
    client = instructor.from_openai(OpenAI(base_url=URL, api_key=KEY))
    messages = ask(PERSON)
    fields = {"response_model": Person, "temperature": 0, "max_tokens": LIMIT}
    first, whole = client.create_with_completion(model=model, messages=messages, **fields)
    messages += [{"role": "assistant", "content": first.model_dump_json()}, *ask(PERSON)]
    second, last = client.create_with_completion(model=other, messages=messages, **fields)
    return {
        "objects": [first.model_dump(), second.model_dump()],
        "models": [whole.model, last.model],
    }


serve(
    chat=chat,
    cold=schema,
    schema=schema,
    schema_json=schema_json,
    schema_stream=schema_stream,
    responses_schema=responses_schema,
    switch=switch,
)
