"""What the routes answer: the shape of every JSON object that leaves the server.

These types are documentation that is held to: `/openapi.json` is generated from them, and tests
validate strictly what is answered, unknown members refused. Nothing is validated at run time;
answers are built where they are known (`llm_serve.api.views`, `llm_serve.generation`,
`llm_serve.wire`). They are typed dicts, since many a member is absent rather than null. `states`
has those that generate nothing.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field

from llm_serve.api.schemas.states import Closed, Count, Open
from llm_serve.sampling import FinishReason


class PromptTokens(Closed):
    """Of the tokens of the prompt, those that were not computed again."""

    cached_tokens: Count


class CompletionUsage(Closed):
    """Counts of tokens."""

    prompt_tokens: Count
    completion_tokens: Count
    total_tokens: Count
    prompt_tokens_details: NotRequired[PromptTokens]


class TopLogprob(Closed):
    """A token that might have been, its bytes, and the natural logarithm of its probability."""

    token: str
    bytes: list[Annotated[int, Field(ge=0, le=255)]]
    logprob: float


class ChatLogprob(TopLogprob):
    """A sampled token, with the likeliest in its place."""

    top_logprobs: list[TopLogprob]


class ChatLogprobs(Closed):
    """One entry for each sampled token."""

    content: list[ChatLogprob]
    refusal: None


class TextLogprobs(Closed):
    """Lists with one entry for each sampled token; offsets count characters of the answer."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[Count]


class CalledFunction(Closed):
    """A function that is to be called, and its arguments as JSON text."""

    name: str
    arguments: str


class ToolCall(Closed):
    """A call of a tool, which the client is to make."""

    id: str
    type: Literal["function"]
    function: CalledFunction


class AssistantMessage(Closed):
    """The turn that was generated; without text where it calls tools and says nothing."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    annotations: Annotated[list[Any], Field(max_length=0)]
    tool_calls: NotRequired[Annotated[list[ToolCall], Field(min_length=1)]]
    reasoning: NotRequired[str]
    reasoning_content: NotRequired[str]


class ArgumentsPiece(Closed):
    """A piece of a call's arguments."""

    arguments: str


class ToolCallBegin(ToolCall):
    """The first piece of a call: all but its arguments, which are empty still."""

    index: Count


class ToolCallPiece(Closed):
    """A further piece of a call."""

    index: Count
    function: ArgumentsPiece


class ChatDelta(Closed):
    """What a choice gained; the first has the role."""

    role: NotRequired[Literal["assistant"]]
    content: NotRequired[str | None]
    tool_calls: NotRequired[list[ToolCallBegin | ToolCallPiece]]
    reasoning: NotRequired[str]
    reasoning_content: NotRequired[str]


class _ChatPiece(Closed):
    index: Count
    logprobs: ChatLogprobs | None


class ChatChoice(_ChatPiece):
    """One of `n` answers to a chat."""

    message: AssistantMessage
    finish_reason: FinishReason


class ChatChunkChoice(_ChatPiece):
    """A piece of one of `n` answers to a chat; the last piece has the reason."""

    delta: ChatDelta
    finish_reason: FinishReason | None


class _TextPiece(Closed):
    index: Count
    text: str
    logprobs: TextLogprobs | None


class TextChoice(_TextPiece):
    """The answer to one prompt, or one of `n`."""

    finish_reason: FinishReason


class TextChunkChoice(_TextPiece):
    """A piece of the answer to one prompt; the last piece has the reason."""

    finish_reason: FinishReason | None


class _Head(Closed):
    id: str
    created: Count
    model: str


class ChatCompletion(_Head):
    """A whole chat answer."""

    object: Literal["chat.completion"]
    choices: Annotated[list[ChatChoice], Field(min_length=1)]
    usage: CompletionUsage


class ChatCompletionChunk(_Head):
    """One frame of a chat answer that streams; with `usage`, the last, it has no choices."""

    object: Literal["chat.completion.chunk"]
    choices: list[ChatChunkChoice]
    usage: NotRequired[CompletionUsage]


class Completion(_Head):
    """A whole text answer."""

    object: Literal["text_completion"]
    choices: Annotated[list[TextChoice], Field(min_length=1)]
    usage: CompletionUsage


class CompletionChunk(_Head):
    """One frame of a text answer that streams; with `usage`, the last, it has no choices."""

    object: Literal["text_completion"]
    choices: list[TextChunkChoice]
    usage: NotRequired[CompletionUsage]


class _EngineHead(Open):
    id: str
    created: Count
    model: str
    usage: dict[str, Any]


class _EnginePiece(Open):
    index: Count
    logprobs: dict[str, Any] | None
    finish_reason: str | None


class EngineTurn(Open):
    """The turn that was generated: it may be a call of a tool."""

    role: Literal["assistant"]
    content: str | None
    refusal: str | None


class EngineChatChoice(_EnginePiece):
    """One of `n` answers to a chat."""

    message: EngineTurn


class EngineChatCompletion(_EngineHead):
    """A whole chat answer of ours or of the engine's own server."""

    object: Literal["chat.completion"]
    choices: Annotated[list[EngineChatChoice], Field(min_length=1)]


class EngineTextChoice(_EnginePiece):
    """The answer to one prompt, or one of `n`."""

    text: str


class EngineCompletion(_EngineHead):
    """A whole text answer of ours or of the engine's own server."""

    object: Literal["text_completion"]
    choices: Annotated[list[EngineTextChoice], Field(min_length=1)]


EngineAnswer = dict[str, Any]
"""What the engine's own server answers on its own routes, by the engine's documentation."""
