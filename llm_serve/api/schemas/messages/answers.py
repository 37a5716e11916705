"""What the Messages routes answer, as `llm_serve.api.schemas.answers` has it for the others."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field

from llm_serve.api.schemas.states import Closed, Count, ModelLoad, Open


class AnswerText(Closed):
    """What the model said."""

    type: Literal["text"]
    text: str


class AnswerThinking(Closed):
    """What the model reasoned, to be sent back as it is with the next turn."""

    type: Literal["thinking"]
    thinking: str
    signature: str


class AnswerToolUse(Closed):
    """A call of a tool, which the client runs."""

    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any]


AnswerBlock = Annotated[AnswerText | AnswerThinking | AnswerToolUse, Field(discriminator="type")]


class MessagesUsage(Closed):
    """Counts of tokens. All of the prompt's are `input_tokens` and `cache_read_input_tokens`."""

    input_tokens: Count
    output_tokens: Count
    cache_read_input_tokens: NotRequired[Count | None]
    cache_creation_input_tokens: NotRequired[Count | None]


class MessagesAnswer(Closed):
    """A whole answer."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[AnswerBlock]
    stop_reason: Literal[
        "end_turn", "max_tokens", "stop_sequence", "tool_use", "model_context_window_exceeded"
    ]
    stop_sequence: str | None
    usage: MessagesUsage


class MessagesEvent(Open):
    """One event of a stream; its name is its type, which says what else it has."""

    type: Literal[
        "message_start",
        "ping",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
        "error",
    ]


class TokenCount(Closed):
    """Tokens of a prompt, its tools and system prompt included."""

    input_tokens: Count


class MessagesError(Closed):
    """Anthropic's error object, with our `param` and `code` in it."""

    type: Literal[
        "invalid_request_error",
        "authentication_error",
        "permission_error",
        "not_found_error",
        "rate_limit_error",
        "timeout_error",
        "api_error",
        "overloaded_error",
    ]
    message: str
    param: str | None
    code: str


class MessagesErrorResponse(Closed):
    """Every answer of these routes of status 400 and above, and the event of a stream that failed
    midway."""

    type: Literal["error"]
    error: MessagesError
    loading: NotRequired[ModelLoad]
