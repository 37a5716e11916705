"""What openai-python makes of the server, the same for every way to reach it.

Strict response validation: the SDK raises where an answer is not what its types say. Streamed text
completions are the exception: until the last chunk their `finish_reason` is null, from OpenAI as
from every server, while the type has no null.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

MESSAGES: list[ChatCompletionMessageParam] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "one two three"},
]


def _check_chunks(chunks: list[ChatCompletionChunk]) -> str:
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 0
    assert chunks[-2].choices[0].finish_reason in ("stop", "length")
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)


def exercise(client: OpenAI, model: str) -> str:
    """Every route, streaming and not; returns the chat's answer."""
    assert client._strict_response_validation
    listed = client.models.list()
    assert model in [m.id for m in listed.data]
    assert client.models.retrieve(model).id == model
    fields = {"model": model, "messages": MESSAGES, "temperature": 0, "max_tokens": 16}
    whole = client.chat.completions.create(**fields)
    stream = client.chat.completions.create(
        **fields, stream=True, stream_options={"include_usage": True}
    )
    answer: str = whole.choices[0].message.content
    assert _check_chunks(list(stream)) == answer
    logged = client.chat.completions.create(**fields, n=2, logprobs=True)
    assert len(logged.choices) == 2
    assert logged.choices[1].logprobs.content
    text = client.completions.create(
        model=model, prompt="one two", max_tokens=8, temperature=0, logprobs=0
    )
    chunks = lax(client).completions.create(
        model=model, prompt="one two", max_tokens=8, temperature=0, stream=True
    )
    assert "".join(c.choices[0].text for c in chunks) == text.choices[0].text
    return answer


async def exercise_async(client: AsyncOpenAI, model: str) -> str:
    """The same with the asynchronous client."""
    assert client._strict_response_validation
    listed = await client.models.list()
    assert model in [m.id for m in listed.data]
    assert (await client.models.retrieve(model)).id == model
    fields = {"model": model, "messages": MESSAGES, "temperature": 0, "max_tokens": 16}
    whole = await client.chat.completions.create(**fields)
    stream: AsyncIterator[ChatCompletionChunk] = await client.chat.completions.create(
        **fields, stream=True, stream_options={"include_usage": True}
    )
    answer: str = whole.choices[0].message.content
    assert _check_chunks([chunk async for chunk in stream]) == answer
    text = await client.completions.create(
        model=model, prompt="one two", max_tokens=8, temperature=0
    )
    assert text.choices[0].finish_reason in ("stop", "length")
    return answer


def lax(client: OpenAI) -> OpenAI:
    """The same client without strict validation."""
    return client.with_options(_extra_kwargs={"_strict_response_validation": False})


def clients(base_url: str, **options: object) -> Iterator[OpenAI]:
    with OpenAI(
        base_url=base_url,
        api_key="not-required",
        max_retries=0,
        _strict_response_validation=True,
        **options,
    ) as client:
        yield client
