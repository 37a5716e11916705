"""Runs one request on one backend: `n` sequences of each prompt in, encoded bytes out.

Messages are coalesced, never timed: each holds whatever is waiting at that moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import cast

from llm_serve.backends.base import Backend, EngineServer
from llm_serve.chat import AnswerParser
from llm_serve.errors import InternalError, InvalidRequest, PromptTooLong, ServeError
from llm_serve.generation.encoding import LONG_TEXT, encode
from llm_serve.generation.messages.renderer import MessagesRenderer
from llm_serve.generation.render import OpenAIRenderer
from llm_serve.generation.renderer import Renderer
from llm_serve.generation.request import Dialect, GenerationRequest, Kind
from llm_serve.generation.responses import ResponsesRenderer
from llm_serve.generation.responses_by_engine import answered
from llm_serve.generation.tokenizing import detokenize, tokenize
from llm_serve.sampling import Delta, Prompt
from llm_serve.wire import error_frame

_Batch = list[tuple[int, Delta]]
"""Deltas that were there at the same time, each with the number of its answer."""
RENDERERS: dict[Dialect, Callable[[GenerationRequest, int, int], Renderer]] = {
    "chat": OpenAIRenderer,
    "messages": MessagesRenderer,
    "responses": ResponsesRenderer,
}
"""What renders the answers to chats and texts: made of the request, the tokens of its prompts and
the number of its answers."""
WITHOUT_GENERATING: dict[Kind, Callable[[Backend, GenerationRequest], Awaitable[bytes]]] = {
    "tokenize": tokenize,
    "detokenize": detokenize,
}
"""What answers the kinds of requests that generate nothing, with the whole body."""


async def execute(
    backend: Backend, request: GenerationRequest, max_running: int
) -> AsyncGenerator[bytes, None]:
    """Yields SSE frames, or the one JSON body of a request that does not stream.

    At most `max_running` of its sequences run at once; a request is no way past that limit.

    Raises ServeError before the first message; later it becomes an error frame, since the status
    line is gone. Closing the iterator aborts every sequence.
    """
    if request.kind == "engine":
        async for message in _by_engine(cast(EngineServer, backend), request):
            yield message
        return
    if (answer := WITHOUT_GENERATING.get(request.kind)) is not None:
        yield await answer(backend, request)
        return
    try:
        prompts = await encode(backend, request)
    except InvalidRequest as error:
        if error.param != "messages":
            raise
        raise type(error)(error.message, param=request.prompt_field) from None
    request, parsers = await _formatted(backend, request, prompts)
    inputs = [prompt for prompt in prompts for _ in range(request.n)]
    prompt_tokens = sum(len(prompt.token_ids) for prompt in prompts)
    renderer = RENDERERS[request.dialect](request, prompt_tokens, len(inputs))
    deltas = (
        _one(backend, request, inputs[0])
        if len(inputs) == 1
        else _many(backend, request, inputs, max_running)
    )
    if parsers:
        deltas = _parsed(deltas, parsers)
    async with aclosing(deltas):
        if not request.stream:
            async for batch in deltas:
                for index, delta in batch:
                    renderer.add(index, delta)
            yield renderer.body()
            return
        begun = False
        try:
            async for batch in deltas:
                message = b"" if begun else renderer.begin()
                message += b"".join(renderer.chunk(index, delta) for index, delta in batch)
                if message:
                    begun = True
                    yield message
        except ServeError as error:
            if not begun:
                raise
            yield renderer.failed(error)
            return
        yield renderer.end()


async def _by_engine(
    backend: EngineServer, request: GenerationRequest
) -> AsyncGenerator[bytes, None]:
    begun = False
    served = backend.serve(request.path, request.body)
    if request.dialect == "responses":
        served = answered(request, served)
    async with aclosing(served) as messages:
        try:
            async for message in messages:
                begun = True
                yield message
        except ServeError as error:
            if not (begun and request.stream):
                raise
            yield error_frame(error, request.path)


async def _formatted(
    backend: Backend, request: GenerationRequest, prompts: list[Prompt]
) -> tuple[GenerationRequest, list[AnswerParser]]:
    """The request with what its model's chat format needs of the sampling, and a parser for each
    answer; none where an answer is text and nothing else. Raises InvalidRequest."""
    chat, parsers = request.conversation, []
    if chat is None:
        return request, []
    (prompt,), form, sampling = prompts, backend.chat_format, request.sampling
    if chat.tools is not None or sampling.guide is not None:
        arguments = (chat.tools, sampling.guide, prompt.reasoning)
        if request.size > LONG_TEXT:
            guide = await asyncio.to_thread(form.guide, *arguments)
        else:
            guide = form.guide(*arguments)
        sampling = replace(sampling, guide=guide)
    for _ in range(request.n):
        if (parser := form.parser(chat.tools, prompt.reasoning)) is None:
            break
        parsers.append(parser)
    if parsers and form.special_tokens:
        sampling = replace(sampling, special_tokens=True)
    return (
        request if sampling is request.sampling else replace(request, sampling=sampling)
    ), parsers


async def _parsed(
    deltas: AsyncGenerator[_Batch, None], parsers: list[AnswerParser]
) -> AsyncGenerator[_Batch, None]:
    async with aclosing(deltas):
        async for batch in deltas:
            yield [(index, parsers[index].push(delta)) for index, delta in batch]


async def _one(
    backend: Backend, request: GenerationRequest, prompt: Prompt
) -> AsyncGenerator[_Batch, None]:
    async with aclosing(backend.generate(prompt, request.sampling)) as deltas:
        try:
            async for delta in deltas:
                yield [(0, delta)]
        except PromptTooLong as error:
            raise _named(error, request) from None


async def _many(
    backend: Backend, request: GenerationRequest, prompts: list[Prompt], max_running: int
) -> AsyncGenerator[_Batch, None]:
    """Runs several sequences at once. With a seed, the i-th of a prompt's n takes seed + i."""
    ready: asyncio.Queue[tuple[int, Delta] | ServeError] = asyncio.Queue()
    places = asyncio.Semaphore(max_running)

    async def pump(index: int, prompt: Prompt) -> None:
        sampling = request.sampling
        if sampling.seed is not None:
            sampling = replace(sampling, seed=sampling.seed + index % request.n)
        try:
            async with places, aclosing(backend.generate(prompt, sampling)) as deltas:
                async for delta in deltas:
                    ready.put_nowait((index, delta))
        except PromptTooLong as error:
            ready.put_nowait(_named(error, request))
        except ServeError as error:
            ready.put_nowait(error)
        except Exception as error:
            ready.put_nowait(InternalError("The engine failed on this request."))
            raise error from None

    tasks = [asyncio.create_task(pump(i, prompt)) for i, prompt in enumerate(prompts)]
    running = len(tasks)
    try:
        while running:
            batch = []
            item = await ready.get()
            while not isinstance(item, ServeError):
                batch.append(item)
                running -= item[1].finish_reason is not None
                if ready.empty():
                    break
                item = ready.get_nowait()
            if batch:
                yield batch
            if isinstance(item, ServeError):
                raise item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _named(error: PromptTooLong, request: GenerationRequest) -> PromptTooLong:
    """The error about the field that this route calls the prompt; a backend cannot know it."""
    return PromptTooLong(error.message, param=request.prompt_field)
