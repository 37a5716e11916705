"""`pydantic-ai`."""

from driven import CAPITAL, ITALY, KEY, LIMIT, PERSON, SYSTEM, TEXTS, URL, WEATHER, serve
from driven import weather as weather_in
from pydantic import BaseModel
from pydantic_ai import Agent, Embedder, NativeOutput
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

provider = OpenAIProvider(base_url=URL, api_key=KEY)
SETTINGS = {"temperature": 0, "max_tokens": LIMIT}


class Person(BaseModel):
    """A person."""

    name: str
    age: int


def agent(model, kind=OpenAIChatModel, **fields):
    return Agent(kind(model, provider=provider), model_settings=SETTINGS, **fields)


async def chat(model, kind=OpenAIChatModel):
    return {"text": (await agent(model, kind, instructions=SYSTEM).run(CAPITAL)).output}


async def stream(model, kind=OpenAIChatModel):
    async with agent(model, kind).run_stream(CAPITAL) as result:
        pieces = [piece async for piece in result.stream_text(delta=True, debounce_by=None)]
        return {"pieces": pieces, "tokens": result.usage.output_tokens}


async def tools(model, kind=OpenAIChatModel):
    calls = []

    def weather(city: str) -> str:
        """The weather in a city."""
        calls.append({"city": city})
        return weather_in(city)

    answer = await agent(model, kind, tools=[weather]).run(WEATHER)
    return {"calls": calls, "text": answer.output}


async def schema(model, kind=OpenAIChatModel, output=Person):
    return {
        "object": (await agent(model, kind, output_type=output).run(PERSON)).output.model_dump()
    }


async def schema_native(model):
    return await schema(model, output=NativeOutput(Person))


async def responses(model):
    return await chat(model, OpenAIResponsesModel)


async def responses_stream(model):
    return await stream(model, OpenAIResponsesModel)


async def responses_tools(model):
    return await tools(model, OpenAIResponsesModel)


async def responses_schema(model):
    return await schema(model, OpenAIResponsesModel)


async def embeddings(model):
    from pydantic_ai.embeddings.openai import OpenAIEmbeddingModel

    result = await Embedder(OpenAIEmbeddingModel(model, provider=provider)).embed_documents(TEXTS)
    return {"vectors": [list(vector) for vector in result.embeddings]}


async def switch(model, other):
    first = await agent(model).run(CAPITAL)
    second = await agent(other).run(ITALY, message_history=first.all_messages())
    return {
        "texts": [first.output, second.output],
        "models": [r.new_messages()[-1].model_name for r in (first, second)],
    }


serve(
    chat=chat,
    cold=chat,
    stream=stream,
    tools=tools,
    schema=schema,
    schema_native=schema_native,
    responses=responses,
    responses_stream=responses_stream,
    responses_tools=responses_tools,
    responses_schema=responses_schema,
    embeddings=embeddings,
    switch=switch,
)
