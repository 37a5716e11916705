"""The `anthropic` package."""

from anthropic import Anthropic
from driven import BASE, CAPITAL, ITALY, KEY, LIMIT, PERSON, SYSTEM, WEATHER, serve, weather
from pydantic import BaseModel

client = Anthropic(base_url=BASE, api_key=KEY)
TOOL = {
    "name": "weather",
    "description": "The weather in a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}


class Person(BaseModel):
    name: str
    age: int


def user(content):
    return {"role": "user", "content": content}


def create(model, messages, **fields):
    return client.messages.create(model=model, messages=messages, max_tokens=LIMIT, **fields)


def text_of(message):
    return "".join(block.text for block in message.content if block.type == "text")


def messages(model):
    return {"text": text_of(create(model, [user(CAPITAL)], system=SYSTEM))}


def messages_stream(model):
    with client.messages.stream(model=model, messages=[user(CAPITAL)], max_tokens=LIMIT) as stream:
        pieces = list(stream.text_stream)
        return {"pieces": pieces, "tokens": stream.get_final_message().usage.output_tokens}


def messages_tools(model):
    turn = [user(WEATHER)]
    once = {"type": "any", "disable_parallel_tool_use": True}
    first = create(model, turn, tools=[TOOL], tool_choice=once)
    turn.append({"role": "assistant", "content": first.content})
    used = [block for block in first.content if block.type == "tool_use"]
    turn.append(
        user(
            [
                {"type": "tool_result", "tool_use_id": use.id, "content": weather(**use.input)}
                for use in used
            ]
        )
    )
    last = create(model, turn, tools=[TOOL], tool_choice={"type": "none"})
    return {"calls": [use.input for use in used], "text": text_of(last)}


def messages_schema(model):
    message = client.messages.parse(
        model=model, messages=[user(PERSON)], max_tokens=LIMIT, output_format=Person
    )
    return {"object": message.parsed_output.model_dump()}


def count_tokens(model):
    counted = client.messages.count_tokens(model=model, messages=[user(CAPITAL)], system=SYSTEM)
    sent = create(model, [user(CAPITAL)], system=SYSTEM)
    return {"tokens": counted.input_tokens, "sent": sent.usage.input_tokens}


def switch(model, other):
    turn = [user(CAPITAL)]
    first = create(model, turn)
    turn += [{"role": "assistant", "content": first.content}, user(ITALY)]
    second = create(other, turn)
    return {"texts": [text_of(first), text_of(second)], "models": [first.model, second.model]}


serve(
    messages=messages,
    cold=messages,
    messages_stream=messages_stream,
    messages_tools=messages_tools,
    messages_schema=messages_schema,
    count_tokens=count_tokens,
    switch=switch,
)
