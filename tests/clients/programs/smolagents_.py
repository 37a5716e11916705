"""`smolagents`: its model, and an agent that calls tools."""

from driven import CAPITAL, ITALY, KEY, LIMIT, SYSTEM, URL, WEATHER, serve
from driven import weather as weather_in
from smolagents import OpenAIModel, ToolCallingAgent, tool
from smolagents.models import ChatMessage, MessageRole


def connect(model):
    return OpenAIModel(model_id=model, api_base=URL, api_key=KEY, temperature=0, max_tokens=LIMIT)


def said(text, role=MessageRole.USER):
    return ChatMessage(role=role, content=[{"type": "text", "text": text}])


def chat(model):
    messages = [said(SYSTEM, MessageRole.SYSTEM), said(CAPITAL)]
    return {"text": connect(model).generate(messages).content}


def stream(model):
    deltas = list(connect(model).generate_stream([said(CAPITAL)]))
    usage = [d.token_usage.output_tokens for d in deltas if d.token_usage]
    return {"pieces": [d.content for d in deltas if d.content], "tokens": sum(usage)}


def tools(model):
    calls = []

    @tool
    def weather(city: str) -> str:
        """The weather in a city.

        Args:
            city: The city.
        """
        calls.append({"city": city})
        return weather_in(city)

    agent = ToolCallingAgent(tools=[weather], model=connect(model), max_steps=2, verbosity_level=0)
    return {"text": str(agent.run(WEATHER)), "calls": calls}


def switch(model, other):
    turn = [said(CAPITAL)]
    first = connect(model).generate(turn).content
    turn += [said(first, MessageRole.ASSISTANT), said(ITALY)]
    return {"texts": [first, connect(other).generate(turn).content]}


serve(chat=chat, cold=chat, stream=stream, tools=tools, switch=switch)
