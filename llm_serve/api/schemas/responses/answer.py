"""What `/v1/responses` answers: OpenAI's response object and its events. See
`llm_serve.generation.responses`, which builds them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field

from llm_serve.api.schemas.responses.items import Status
from llm_serve.api.schemas.states import Closed, Count, Open


class TokenAlternative(Closed):
    """A token that might have been, its bytes, and the natural logarithm of its probability."""

    token: str
    bytes: list[Annotated[int, Field(ge=0, le=255)]]
    logprob: float


class TokenLogprob(TokenAlternative):
    """A sampled token, with the likeliest in its place."""

    top_logprobs: list[TokenAlternative]


class TextContent(Closed):
    """The text of a message."""

    type: Literal["output_text"]
    text: str
    annotations: list[dict[str, Any]]
    logprobs: list[TokenLogprob]


class MessageOutput(Closed):
    """What the model said."""

    type: Literal["message"]
    id: str
    role: Literal["assistant"]
    status: Status
    content: list[TextContent]


class ReasoningContent(Closed):
    """The text of reasoning."""

    type: Literal["reasoning_text"]
    text: str


class ReasoningOutput(Closed):
    """What the model thought."""

    type: Literal["reasoning"]
    id: str
    status: Status
    summary: list[dict[str, Any]]
    content: list[ReasoningContent]


class FunctionCallOutput(Closed):
    """A function that the model calls, its arguments as JSON text."""

    type: Literal["function_call"]
    id: str
    status: Status
    call_id: str
    name: str
    namespace: NotRequired[str]
    arguments: str


class CustomCallOutput(Closed):
    """A custom tool that the model calls, and the text that it is given."""

    type: Literal["custom_tool_call"]
    id: str
    call_id: str
    name: str
    namespace: NotRequired[str]
    input: str


class InputTokens(Closed):
    """Of the tokens of the input, those that were not computed again; none are billed as written
    to a cache."""

    cached_tokens: Count
    cache_write_tokens: Count


class OutputTokens(Closed):
    """Of the tokens of the output, those of reasoning: each that came with nothing else."""

    reasoning_tokens: Count


class ResponseTokens(Closed):
    """Counts of tokens."""

    input_tokens: Count
    input_tokens_details: InputTokens
    output_tokens: Count
    output_tokens_details: OutputTokens
    total_tokens: Count


class IncompleteDetails(Closed):
    """Why the answer ends where it does."""

    reason: Literal["max_output_tokens"]


class ResponseObject(Closed):
    """A response; much of it repeats the request. `tools` are those that the model was given."""

    id: str
    object: Literal["response"]
    created_at: Count
    status: Literal["completed", "incomplete"]
    background: Literal[False]
    completed_at: Count | None
    error: None
    incomplete_details: IncompleteDetails | None
    instructions: str | None
    max_output_tokens: Count | None
    max_tool_calls: Count | None
    metadata: dict[str, str]
    parallel_tool_calls: bool
    previous_response_id: str | None
    prompt_cache_key: str | None
    reasoning: dict[str, str | None]
    safety_identifier: str | None
    service_tier: Literal["default"]
    temperature: float
    text: dict[str, Any]
    tool_choice: str | dict[str, Any]
    tools: list[dict[str, Any]]
    top_logprobs: Count
    top_p: float
    truncation: Literal["disabled"]
    user: str | None
    model: str
    output: list[MessageOutput | ReasoningOutput | FunctionCallOutput | CustomCallOutput]
    usage: ResponseTokens


class ResponseEvent(Open):
    """One event, whose other members are as OpenAI's SDKs have them by its type. The last one is
    `response.completed`, `response.incomplete` or `response.failed`, with the whole response."""

    type: str
    sequence_number: Count


class DeletedResponse(Closed):
    """A response that is stored no more."""

    id: str
    object: Literal["response"]
    deleted: Literal[True]
