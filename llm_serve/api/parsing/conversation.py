"""From the turns and tools of a chat to the `Conversation` that its model is given, and from the
form that is asked for to the guide of its answer."""

from __future__ import annotations

from typing import Any

from llm_serve.api.parsing.capabilities import need
from llm_serve.api.schemas.chat.formats import Guided
from llm_serve.api.schemas.chat.tools import tools_of
from llm_serve.api.schemas.chat.turns import AssistantTurn, MediaPart, ToolTurn
from llm_serve.api.schemas.requests import ChatRequest
from llm_serve.backends import CAPABILITIES
from llm_serve.config import ModelConfig
from llm_serve.errors import InvalidRequest, UnsupportedParameter
from llm_serve.sampling import Conversation, Guide

_OURS = frozenset(
    {
        *("conversation", "messages", "tools", "documents", "chat_template", "tokenize"),
        *("add_generation_prompt", "continue_final_message", "padding", "truncation"),
        *("max_length", "return_tensors", "return_dict", "return_assistant_tokens_mask"),
        *("tokenizer_kwargs", "self"),
    }
)
"""Names that a template's variables may not have: they are arguments of what applies it."""


def conversation_of(body: ChatRequest, model: ModelConfig) -> Conversation:
    """The conversation, where its parts go together. Raises InvalidRequest, and
    UnsupportedParameter for what the model cannot do."""
    _check_turns(body, model)
    tools = tools_of(body.tools, body.tool_choice, body.parallel_tool_calls)
    if tools is not None:
        need(model, "tools")
        if tools.forced and not CAPABILITIES[model.backend].response_format:
            raise UnsupportedParameter(
                f"tool_choice: the {model.backend} backend of {model.id} cannot enforce a call; "
                "send 'auto' or 'none'.",
                param="tool_choice",
            )
    turns = tuple(message.templated() for message in body.messages)
    return Conversation(turns, tools, _variables(body))


def guide_of(body: Guided, model: ModelConfig) -> Guide | None:
    """What the answer must be. Raises InvalidRequest, and UnsupportedParameter where the model
    cannot be held to it."""
    guide = body.guide()
    if guide is not None:
        need(model, "response_format", guide.param)
    by_engine = body.guided_by_engine()
    if by_engine is not None:
        need(model, "extensions", by_engine)
    return guide


def _check_turns(body: ChatRequest, model: ModelConfig) -> None:
    asked: set[str] = set()
    for i, turn in enumerate(body.messages):
        at = f"messages[{i}]"
        if isinstance(turn, AssistantTurn):
            asked.update(call.id for call in turn.tool_calls or ())
            said = turn.content is not None or turn.refusal is not None
            if not (said or turn.tool_calls or turn.reasoning_content or turn.reasoning):
                raise InvalidRequest(
                    f"{at}.content is required; only a turn with tool_calls may leave it out.",
                    param=f"{at}.content",
                )
            continue
        if isinstance(turn, ToolTurn) and turn.tool_call_id not in asked:
            raise InvalidRequest(
                f"{at}.tool_call_id: no turn before it has a call with the id "
                f"{turn.tool_call_id[:64]!r}; send the assistant's turn with its tool_calls too.",
                param=f"{at}.tool_call_id",
            )
        if isinstance(turn.content, str) or CAPABILITIES[model.backend].images:
            continue
        for j, part in enumerate(turn.content):
            if isinstance(part, MediaPart):
                where = f"{at}.content[{j}].type"
                raise UnsupportedParameter(
                    f"{where}: {part.type} is not supported by the {model.backend} backend of "
                    f"{model.id}, which reads text.",
                    param=where,
                )


def _variables(body: ChatRequest) -> dict[str, Any]:
    """The variables of the template. `reasoning_effort` is its own name of it in templates that
    know one; those that can be told whether to reason at all have `enable_thinking` for it."""
    given = body.chat_template_kwargs or {}
    for name in given:
        if name in _OURS or not name.isidentifier():
            raise InvalidRequest(
                f"chat_template_kwargs: {name[:64]!r} is not a variable to set; leave it out.",
                param="chat_template_kwargs",
            )
    effort = body.reasoning_effort
    if effort is None:
        return given
    variables = {"reasoning_effort": effort, "enable_thinking": effort != "none"}
    return {**variables, **given}
