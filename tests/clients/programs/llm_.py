"""`llm`, with the models in its `extra-openai-models.yaml`."""

import json
import os
from pathlib import Path

import llm
from driven import CAPITAL, ITALY, KEY, LIMIT, PERSON, SYSTEM, URL, WEATHER, serve, weather
from pydantic import BaseModel

OPTIONS = {"temperature": 0, "max_tokens": LIMIT}


class Person(BaseModel):
    name: str
    age: int


def get(model):
    entry = {
        "model_id": model,
        "model_name": model,
        "api_base": URL,
        "supports_schema": True,
        "supports_tools": True,
    }
    # JSON is YAML.
    file = Path(os.environ["LLM_USER_PATH"]) / "extra-openai-models.yaml"
    file.write_text(json.dumps([entry]))
    return llm.get_model(model)


def chat(model):
    answer = get(model).prompt(CAPITAL, system=SYSTEM, stream=False, key=KEY, **OPTIONS)
    return {"text": answer.text()}


def stream(model):
    answer = get(model).prompt(CAPITAL, key=KEY, **OPTIONS)
    pieces = [piece for piece in answer if piece]
    return {"pieces": pieces, "tokens": answer.usage().output}


def tools(model):
    calls = []

    def weather_in(city: str) -> str:
        """The weather in a city."""
        calls.append({"city": city})
        return weather(city)

    weather_in.__name__ = "weather"
    chain = get(model).chain(WEATHER, tools=[weather_in], key=KEY, options=OPTIONS)
    return {"calls": calls, "text": chain.text()}


def schema(model):
    answer = get(model).prompt(PERSON, schema=Person, stream=False, key=KEY, **OPTIONS)
    return {"object": json.loads(answer.text())}


def switch(model, other):
    conversation = get(model).conversation()
    first = conversation.prompt(CAPITAL, key=KEY, **OPTIONS).text()
    conversation.model = get(other)
    second = conversation.prompt(ITALY, key=KEY, **OPTIONS).text()
    return {"texts": [first, second]}


serve(chat=chat, cold=chat, stream=stream, tools=tools, schema=schema, switch=switch)
