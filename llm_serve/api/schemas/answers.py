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
_closed = with_config(ConfigDict(extra="forbid", strict=True))
_open = with_config(ConfigDict(extra="allow", strict=True))


@_closed
class ModelLoad(TypedDict):
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


@_closed
class Error(TypedDict):
    """What was wrong, for a person and for a program."""

    message: str
    type: str
    param: str | None
    code: str


@_closed
class ErrorResponse(TypedDict):
    """Every answer of status 400 and above, and the frame of a stream that failed midway."""

    error: Error
    loading: NotRequired[ModelLoad]


@_closed
class PromptTokens(TypedDict):
    """Of the tokens of the prompt, those that were not computed again."""

    cached_tokens: Count


@_closed
class Usage(TypedDict):
    """Tokens."""

    prompt_tokens: Count
    completion_tokens: Count
    total_tokens: Count
    prompt_tokens_details: NotRequired[PromptTokens]


@_closed
class TopLogprob(TypedDict):
    """A token that might have been, its bytes, and its natural logarithm of probability."""

    token: str
    bytes: list[Annotated[int, Field(ge=0, le=255)]]
    logprob: float


@_closed
class ChatLogprob(TopLogprob):
    """A sampled token, with the likeliest in its place."""

    top_logprobs: list[TopLogprob]


@_closed
class ChatLogprobs(TypedDict):
    """One entry for each sampled token."""

    content: list[ChatLogprob]
    refusal: None


@_closed
class TextLogprobs(TypedDict):
    """Lists with one entry for each sampled token; offsets count characters of the answer."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[Count]


@_closed
class AssistantMessage(TypedDict):
    """The turn that was generated."""

    role: Literal["assistant"]
    content: str
    refusal: None


@_closed
class ChatChoice(TypedDict):
    """One of `n` answers."""

    index: Count
    message: AssistantMessage
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason


@_closed
class ChatCompletion(TypedDict):
    """A whole chat answer."""

    id: str
    object: Literal["chat.completion"]
    created: Count
    model: str
    choices: Annotated[list[ChatChoice], Field(min_length=1)]
    usage: Usage


@_closed
class ChatDelta(TypedDict):
    """What a choice gained; the first has the role."""

    role: NotRequired[Literal["assistant"]]
    content: NotRequired[str]


@_closed
class ChatChunkChoice(TypedDict):
    """A piece of one of `n` answers; the last piece has the reason."""

    index: Count
    delta: ChatDelta
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason | None


@_closed
class ChatCompletionChunk(TypedDict):
    """One frame of a chat answer that streams; with `usage`, the last, it has no choices."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: Count
    model: str
    choices: list[ChatChunkChoice]
    usage: NotRequired[Usage]


@_closed
class TextChoice(TypedDict):
    """The answer to one prompt, or one of `n`."""

    index: Count
    text: str
    logprobs: TextLogprobs | None
    finish_reason: FinishReason


@_closed
class Completion(TypedDict):
    """A whole text answer."""

    id: str
    object: Literal["text_completion"]
    created: Count
    model: str
    choices: Annotated[list[TextChoice], Field(min_length=1)]
    usage: Usage


@_closed
class TextChunkChoice(TypedDict):
    """A piece of the answer to one prompt; the last piece has the reason."""

    index: Count
    text: str
    logprobs: TextLogprobs | None
    finish_reason: FinishReason | None


@_closed
class CompletionChunk(TypedDict):
    """One frame of a text answer that streams; with `usage`, the last, it has no choices."""

    id: str
    object: Literal["text_completion"]
    created: Count
    model: str
    choices: list[TextChunkChoice]
    usage: NotRequired[Usage]


@_closed
class Limits(TypedDict):
    """Sequences of one replica."""

    max_running: Count
    max_queued: Count


@_closed
class ModelObject(TypedDict):
    """One allowlisted model, and how it stands."""

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


@_closed
class ModelList(TypedDict):
    """The allowlist, in the order of the configuration, each model's adapters behind it."""

    object: Literal["list"]
    data: list[ModelObject]


@_closed
class Health(TypedDict):
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


@_closed
class StateEvent(TypedDict):
    """One frame of `/v1/events`: the server, and each model that changed."""

    object: Literal["event"]
    server: Health
    models: list[ModelObject]


# Where an engine's own server may answer: tool calls, reasoning, more reasons to finish.


@_open
class EngineMessageAnswer(TypedDict):
    """The turn that was generated, with what the engine adds."""

    role: Literal["assistant"]
    content: str | None
    refusal: str | None


@_open
class EngineChatChoice(TypedDict):
    """One of `n` answers, with what the engine adds."""

    index: Count
    message: EngineMessageAnswer
    logprobs: dict[str, Any] | None
    finish_reason: str | None


@_open
class EngineChatCompletion(TypedDict):
    """A whole chat answer of ours or of the engine's server."""

    id: str
    object: Literal["chat.completion"]
    created: Count
    model: str
    choices: Annotated[list[EngineChatChoice], Field(min_length=1)]
    usage: dict[str, Any]


@_open
class EngineTextChoice(TypedDict):
    """The answer to one prompt, or one of `n`, with what the engine adds."""

    index: Count
    text: str
    logprobs: dict[str, Any] | None
    finish_reason: str | None


@_open
class EngineCompletion(TypedDict):
    """A whole text answer of ours or of the engine's server."""

    id: str
    object: Literal["text_completion"]
    created: Count
    model: str
    choices: Annotated[list[EngineTextChoice], Field(min_length=1)]
    usage: dict[str, Any]


EngineAnswer = dict[str, Any]
"""What the engine's own server answers on its own routes, by the engine's documentation."""
