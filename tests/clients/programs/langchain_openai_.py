"""`langchain-openai`."""

from driven import CAPITAL, ITALY, KEY, LIMIT, PERSON, TEXTS, URL, WEATHER, serve
from driven import weather as weather_in
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel


class Person(BaseModel):
    """A person."""

    name: str
    age: int


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    return weather_in(city)


def connect(model, **fields):
    return ChatOpenAI(
        model=model, base_url=URL, api_key=KEY, temperature=0, max_tokens=LIMIT, **fields
    )


def chat(model):
    return {"text": connect(model).invoke(CAPITAL).text}


def stream(model):
    chunks = list(connect(model, stream_usage=True).stream(CAPITAL))
    whole = sum(chunks[1:], chunks[0])
    pieces = [chunk.text for chunk in chunks if chunk.text]
    return {"pieces": pieces, "tokens": whole.usage_metadata["output_tokens"]}


def tools(model, **fields):
    llm = connect(model, **fields)
    messages = [HumanMessage(WEATHER)]
    first = llm.bind_tools([weather], tool_choice="any").invoke(messages)
    messages.append(first)
    for call in first.tool_calls:
        result = weather.invoke(call)
        assert isinstance(result, ToolMessage)
        messages.append(result)
    last = llm.bind_tools([weather], tool_choice="none").invoke(messages)
    return {"calls": [call["args"] for call in first.tool_calls], "text": last.text}


def schema(model):
    return {"object": connect(model).with_structured_output(Person).invoke(PERSON).model_dump()}


def schema_tool(model):
    llm = connect(model).with_structured_output(Person, method="function_calling")
    return {"object": llm.invoke(PERSON).model_dump()}


def schema_stream(model):
    class Answer(BaseModel):
        name: str
        age: int

    json_schema = Answer.model_json_schema()
    llm = connect(model).with_structured_output(json_schema)
    return {"object": list(llm.stream(PERSON))[-1]}


def responses(model):
    return {"text": connect(model, use_responses_api=True).invoke(CAPITAL).text}


def responses_stream(model):
    chunks = list(connect(model, use_responses_api=True).stream(CAPITAL))
    whole = sum(chunks[1:], chunks[0])
    pieces = [chunk.text for chunk in chunks if chunk.text]
    return {"pieces": pieces, "tokens": whole.usage_metadata["output_tokens"]}


def responses_tools(model):
    return tools(model, use_responses_api=True)


def embeddings(model):
    # Else the texts are sent as tokens of OpenAI's models.
    embedder = OpenAIEmbeddings(
        model=model, base_url=URL, api_key=KEY, check_embedding_ctx_length=False
    )
    return {"vectors": embedder.embed_documents(TEXTS)}


def switch(model, other):
    messages = [HumanMessage(CAPITAL)]
    messages.append(connect(model).invoke(messages))
    messages.append(HumanMessage(ITALY))
    second = connect(other).invoke(messages)
    return {
        "texts": [messages[1].text, second.text],
        "models": [m.response_metadata["model_name"] for m in (messages[1], second)],
    }


serve(
    chat=chat,
    cold=chat,
    stream=stream,
    tools=tools,
    schema=schema,
    schema_tool=schema_tool,
    schema_stream=schema_stream,
    responses=responses,
    responses_stream=responses_stream,
    responses_tools=responses_tools,
    embeddings=embeddings,
    switch=switch,
)
