"""`openai-agents`: the Responses API, which is its default, and chats."""

from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from driven import CAPITAL, ITALY, KEY, LIMIT, PERSON, SYSTEM, URL, WEATHER, serve
from driven import weather as weather_in
from openai import AsyncOpenAI
from pydantic import BaseModel

set_tracing_disabled(True)
client = AsyncOpenAI(base_url=URL, api_key=KEY)


class Person(BaseModel):
    name: str
    age: int


def agent(model, kind, tool_choice=None, **fields):
    return Agent(
        name="Assistant",
        instructions=SYSTEM,
        model=kind(model=model, openai_client=client),
        model_settings=ModelSettings(
            temperature=0,
            max_tokens=LIMIT,
            tool_choice=tool_choice,
            parallel_tool_calls=None if tool_choice is None else False,
            include_usage=True,
        ),
        **fields,
    )


async def ask(model, kind):
    return {"text": (await Runner.run(agent(model, kind), CAPITAL)).final_output}


async def streamed(model, kind):
    result = Runner.run_streamed(agent(model, kind), CAPITAL)
    pieces = [
        event.data.delta
        async for event in result.stream_events()
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta"
    ]
    return {"pieces": pieces, "tokens": result.context_wrapper.usage.output_tokens}


async def tooled(model, kind):
    calls = []

    @function_tool
    def weather(city: str) -> str:
        """The weather in a city."""
        calls.append({"city": city})
        return weather_in(city)

    result = await Runner.run(agent(model, kind, "required", tools=[weather]), WEATHER)
    return {"calls": calls, "text": result.final_output}


async def typed(model, kind):
    result = await Runner.run(agent(model, kind, output_type=Person), PERSON)
    return {"object": result.final_output.model_dump()}


async def chat(model):
    return await ask(model, OpenAIChatCompletionsModel)


async def stream(model):
    return await streamed(model, OpenAIChatCompletionsModel)


async def tools(model):
    return await tooled(model, OpenAIChatCompletionsModel)


async def schema(model):
    return await typed(model, OpenAIChatCompletionsModel)


async def responses(model):
    return await ask(model, OpenAIResponsesModel)


async def responses_stream(model):
    return await streamed(model, OpenAIResponsesModel)


async def responses_tools(model):
    return await tooled(model, OpenAIResponsesModel)


async def responses_schema(model):
    return await typed(model, OpenAIResponsesModel)


async def switch(model, other):
    first = await Runner.run(agent(model, OpenAIResponsesModel), CAPITAL)
    turn = [*first.to_input_list(), {"role": "user", "content": ITALY}]
    second = await Runner.run(agent(other, OpenAIResponsesModel), turn)
    return {"texts": [first.final_output, second.final_output]}


serve(
    chat=chat,
    cold=chat,
    stream=stream,
    tools=tools,
    schema=schema,
    responses=responses,
    responses_stream=responses_stream,
    responses_tools=responses_tools,
    responses_schema=responses_schema,
    cold_responses=responses,
    switch=switch,
)
