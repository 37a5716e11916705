"""What the routes answer: the shape of every JSON object that leaves the server.

These types are documentation that is held to: `/openapi.json` is generated from them, and tests
validate strictly what is answered, unknown members refused. Nothing is validated at run time;
answers are built where they are known (`llm_serve.api.views`, `llm_serve.generation.render`,
`llm_serve.wire`). They are typed dicts, since many a member is absent rather than null.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict

from llm_serve.sampling import FinishReason
from llm_serve.status import ModelState, ServerState

Count = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0)]


@with_config(ConfigDict(extra="forbid", strict=True))
class Closed(TypedDict):
    """An object that has the members named here and no others."""


@with_config(ConfigDict(extra="allow", strict=True))
class Open(TypedDict):
    """An object to which the engine's own server may add members."""


class ModelLoad(Closed):
    """Where the load of a model stands: the guide's 202."""

    object: Literal["model.load"]
    status: Literal["spinning_up"]
    model: str
    current_model: str | None
    retry_after_seconds: Annotated[int, Field(ge=1)]
    eta_seconds: Seconds | None
    stage: str | None
    progress: Fraction | None
    position: Count | None


class Error(Closed):
    """What was wrong, for a person and for a program."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorResponse(Closed):
    """Every answer of status 400 and above, and the frame of a stream that failed midway."""

    error: Error
    loading: NotRequired[ModelLoad]


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


class AssistantMessage(Closed):
    """The turn that was generated."""

    role: Literal["assistant"]
    content: str
    refusal: None


class ChatDelta(Closed):
    """What a choice gained; the first has the role."""

    role: NotRequired[Literal["assistant"]]
    content: NotRequired[str]


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


class Limits(Closed):
    """How many sequences one replica runs at once, and how many wait."""

    max_running: Count
    max_queued: Count


class ModelObject(Closed):
    """One allowlisted model, or an adapter of one, and how it stands."""

    id: str
    object: Literal["model"]
    created: Count
    owned_by: str
    status: ModelState
    loaded: bool
    pinned: bool
    replicas: Count
    default: bool
    backend: str
    capabilities: dict[str, bool]
    limits: Limits
    running: Count
    queued: Count
    parent: NotRequired[str]
    untried: NotRequired[str]
    engine_details: NotRequired[dict[str, str]]
    context_length: NotRequired[Count]
    footprint_bytes: NotRequired[Count]
    dtype: NotRequired[str]
    device: NotRequired[str]
    engine_version: NotRequired[str]
    load_stage: NotRequired[str | None]
    load_progress: NotRequired[Fraction | None]
    position: NotRequired[Count | None]
    eta_seconds: NotRequired[Seconds | None]
    last_error: NotRequired[str]
    retry_in_seconds: NotRequired[Seconds]


class ModelList(Closed):
    """The allowlist, in the order of the configuration, each model's adapters behind it."""

    object: Literal["list"]
    data: list[ModelObject]


class Health(Closed):
    """How the server is; `model_id` is the default model, and `loaded` is about it."""

    status: ServerState
    loaded: bool
    model_id: str
    inference_backend: str
    queue_depth: Count
    running: Count
    switch_in_progress: bool
    switch_target_model: str | None
    load_model: NotRequired[str]
    load_stage: NotRequired[str | None]
    load_progress: NotRequired[Fraction | None]
    load_eta_seconds: NotRequired[Seconds | None]
    failed_models: NotRequired[list[str]]


class StateEvent(Closed):
    """One frame of `/v1/events`: the server, and each model that changed."""

    object: Literal["event"]
    server: Health
    models: list[ModelObject]
