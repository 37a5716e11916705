"""The Messages routes: from a body to a request for our engines, or for the engine's own server."""

from __future__ import annotations

import time
import uuid
from dataclasses import replace
from typing import Any, TypeVar

from pydantic import ValidationError

from llm_serve.api.parsing.allowlist import Fields, model_of
from llm_serve.api.parsing.by_engine import for_engine
from llm_serve.api.parsing.capabilities import need
from llm_serve.api.parsing.explain import explain
from llm_serve.api.parsing.messages.conversation import conversation_of
from llm_serve.api.parsing.messages.edits import edited
from llm_serve.api.schemas.messages.blocks import (
    TAGS,
    AssistantTurn,
    ImageBlock,
    TextBlock,
    ToolResultBlock,
    ToolUseBlock,
)
from llm_serve.api.schemas.messages.lenient import BETA, REFUSED
from llm_serve.api.schemas.messages.requests import (
    CountTokensRequest,
    EngineCountTokensRequest,
    EngineMessagesRequest,
    MessagesRequest,
)
from llm_serve.backends import CAPABILITIES
from llm_serve.config import Config, ModelConfig
from llm_serve.errors import InvalidRequest, UnsupportedParameter
from llm_serve.generation.request import GenerationRequest
from llm_serve.sampling import Conversation, Guide, Sampling
from llm_serve.wire import to_json

MESSAGES, COUNT = "/v1/messages", "/v1/messages/count_tokens"
_Body = TypeVar("_Body", bound=CountTokensRequest)


def parse_messages(fields: Fields, config: Config, beta: bool = False) -> GenerationRequest:
    """The request of `POST /v1/messages`; `beta`: members that are not known are dropped. Raises
    InvalidRequest and its children."""
    model = model_of(fields, config)
    own = CAPABILITIES[model.backend].extensions
    body = _read(EngineMessagesRequest if own else MessagesRequest, fields, model, beta)
    thinking = body.thinking
    budget = thinking.budget_tokens if thinking and thinking.type == "enabled" else None
    if budget is not None and budget >= body.max_tokens:
        raise InvalidRequest(
            "thinking.budget_tokens must be less than max_tokens; the answer needs some too.",
            param="thinking.budget_tokens",
        )
    if body.top_k:
        need(model, "top_k")
    sampling = _sampling(body, model)
    if own:
        return for_engine(MESSAGES, _sent(body, sampling), model, sampling, stream=body.stream)
    return GenerationRequest(
        id=f"msg_{uuid.uuid4().hex}",
        kind="chat",
        model=model.id,
        created=int(time.time()),
        sampling=sampling,
        conversation=_conversation(body),
        stream=body.stream,
        dialect="messages",
        echo={"thinking": _display(body)},
        path=MESSAGES,
    )


def parse_count(fields: Fields, config: Config, beta: bool = False) -> GenerationRequest:
    """The request of `POST /v1/messages/count_tokens`; see `parse_messages`."""
    model = model_of(fields, config)
    own = CAPABILITIES[model.backend].extensions
    body = _read(EngineCountTokensRequest if own else CountTokensRequest, fields, model, beta)
    sampling = Sampling(adapter=body.model if body.model != model.id else None)
    if own:
        return for_engine(COUNT, _sent(body, sampling), model, sampling)
    return GenerationRequest(
        id=f"count_{uuid.uuid4().hex}",
        kind="tokenize",
        model=model.id,
        created=int(time.time()),
        sampling=sampling,
        conversation=_conversation(body),
        dialect="messages",
        path=COUNT,
    )


def _read(schema: type[_Body], fields: Fields, model: ModelConfig, beta: bool) -> _Body:
    """The body as the model is shown it. Raises InvalidRequest."""
    try:
        body = schema.model_validate(fields, context={BETA: beta})
    except ValidationError as error:
        raise explain(error, REFUSED, TAGS) from None
    if not CAPABILITIES[model.backend].images:
        _refuse_images(body, model)
    thinking = body.thinking
    if thinking and thinking.type == "enabled" and thinking.budget_tokens is None:
        raise InvalidRequest(
            "thinking.budget_tokens is required with thinking.type 'enabled'.",
            param="thinking.budget_tokens",
        )
    if body.tools:
        need(model, "tools")
    if body.output_format and body.output_config and body.output_config.format:
        raise InvalidRequest(
            "output_format is the former name of output_config.format; send one of them.",
            param="output_format",
        )
    if body.wanted is not None:
        need(model, "response_format", body.wanted[0])
    shown = edited(body)
    if not shown.messages:
        raise InvalidRequest(
            "messages: nothing is said; send a turn of the user.", param="messages"
        )
    _check_choice(body, shown, model)
    _check_last(shown, model)
    return shown


def _refuse_images(body: CountTokensRequest, model: ModelConfig) -> None:
    for i, turn in enumerate(body.messages):
        for j, block in enumerate(turn.content if isinstance(turn.content, list) else ()):
            parts: list[Any] = [block]
            if isinstance(block, ToolResultBlock) and isinstance(block.content, list):
                parts = block.content
            for k, part in enumerate(parts):
                if isinstance(part, ImageBlock):
                    path = f"messages[{i}].content[{j}]"
                    path += "" if part is block else f".content[{k}]"
                    raise UnsupportedParameter(
                        f"{path}: an image is not supported by the {model.backend} backend of "
                        f"{model.id}, which reads text.",
                        param=path,
                    )


def _check_choice(body: CountTokensRequest, shown: CountTokensRequest, model: ModelConfig) -> None:
    """Raises InvalidRequest for a choice of tools that the tools `shown` do not allow."""
    choice = body.tool_choice
    if choice is None:
        return
    if not body.tools:
        if choice.type == "none":
            return
        raise InvalidRequest("tool_choice needs tools; send both or neither.", param="tool_choice")
    if (choice.type == "tool") != (choice.name is not None):
        raise InvalidRequest(
            "tool_choice.name belongs to type 'tool', and 'tool' needs it.",
            param="tool_choice.name",
        )
    on_offer = [tool.name for tool in shown.tools or ()]
    if choice.type == "any" and not on_offer:
        raise InvalidRequest(
            "tool_choice: every tool is deferred, so that none can be called.", param="tool_choice"
        )
    if choice.type == "tool" and choice.name not in on_offer:
        raise InvalidRequest(
            f"tool_choice.name: no tool on offer is named {choice.name!r}.",
            param="tool_choice.name",
        )
    if choice.type in ("any", "tool") and not CAPABILITIES[model.backend].response_format:
        raise UnsupportedParameter(
            f"tool_choice: the {model.backend} backend of {model.id} cannot enforce a call; "
            "send 'auto' or 'none'.",
            param="tool_choice",
        )


def _check_last(body: CountTokensRequest, model: ModelConfig) -> None:
    """Raises InvalidRequest for a last turn of the assistant that cannot be continued."""
    if not _continues(body):
        return
    last = body.messages[-1]
    blocks = last.content if isinstance(last.content, list) else []
    text = last.content if isinstance(last.content, str) else ""
    text += "".join(block.text for block in blocks if isinstance(block, TextBlock))
    if CAPABILITIES[model.backend].extensions:
        reason = f"the {model.backend} backend continues none; end with a turn of the user"
    elif any(isinstance(block, ToolUseBlock) for block in blocks):
        reason = "a call of a tool wants its tool_result; send it as the next turn"
    elif not text or text != text.rstrip():
        reason = "it must have text to go on from, without white space at the end"
    elif body.wanted is not None:
        reason = "a format holds for whole answers; end with a turn of the user"
    else:
        return
    raise InvalidRequest(
        f"messages: the last turn is the assistant's, and {reason}.", param="messages"
    )


def _continues(body: CountTokensRequest) -> bool:
    """Whether the answer goes on from a turn of the assistant."""
    return bool(body.messages) and isinstance(body.messages[-1], AssistantTurn)


def _conversation(body: CountTokensRequest) -> Conversation:
    conversation = conversation_of(body, _variables(body))
    return replace(conversation, ending="continued") if _continues(body) else conversation


def _variables(body: CountTokensRequest) -> dict[str, Any]:
    """Of the template, by the names that most of those have which can be told whether to reason."""
    variables: dict[str, Any] = {}
    kind = _thinking(body)
    if kind != "adaptive":
        variables = {"enable_thinking": kind == "enabled", "thinking": kind == "enabled"}
    if body.output_config and body.output_config.effort:
        variables["reasoning_effort"] = body.output_config.effort
    return variables


def _thinking(body: CountTokensRequest) -> str:
    """`enabled`, `disabled`, or `adaptive`, which leaves it to the template."""
    kind = body.thinking.type if body.thinking else "disabled"
    if kind == "between_tools":
        content = body.messages[-1].content if body.messages else ""
        results = isinstance(content, list) and any(b.type == "tool_result" for b in content)
        return "enabled" if results else "disabled"
    return kind


def _display(body: CountTokensRequest) -> str:
    """How the answer shows reasoning: `shown`, `omitted` (in the signature alone) or `hidden`."""
    if _thinking(body) == "disabled":
        return "hidden"
    omitted = body.thinking is not None and body.thinking.display == "omitted"
    return "omitted" if omitted else "shown"


def _sampling(body: MessagesRequest, model: ModelConfig) -> Sampling:
    defaults = model.defaults
    return Sampling(
        temperature=defaults.temperature if body.temperature is None else body.temperature,
        top_p=defaults.top_p if body.top_p is None else body.top_p,
        top_k=body.top_k or 0,
        max_tokens=body.max_tokens,
        stop=tuple(body.stop_sequences or ()),
        guide=_guide(body),
        final_only=not body.stream,
        adapter=body.model if body.model != model.id else None,
    )


def _guide(body: MessagesRequest) -> Guide | None:
    if body.wanted is None:
        return None
    field, schema = body.wanted
    return Guide("json_schema", to_json(schema).decode(), param=field)


def _sent(body: CountTokensRequest, sampling: Sampling) -> Fields:
    """What the engine's own server is sent: the request as it was read, with what is decided here
    filled in."""
    dropped = {"output_format", "context_management", "speed", "service_tier", "diagnostics"}
    sent = body.model_dump(by_alias=True, exclude_unset=True, exclude=dropped)
    if not body.tools:
        sent.pop("tools", None)
        sent.pop("tool_choice", None)
    elif sent.get("tool_choice", {}).get("type") in ("any", "tool"):
        # vLLM's server holds a call to the parameters of strict tools alone.
        sent["tools"] = [tool | {"strict": True} for tool in sent["tools"]]
    kind = _thinking(body)
    if kind == "disabled" or body.thinking is None or body.thinking.type == "between_tools":
        sent["thinking"] = {"type": "disabled" if kind == "disabled" else "adaptive"}
    if body.output_format is not None:
        form = body.output_format.model_dump(by_alias=True)
        sent["output_config"] = {**sent.get("output_config", {}), "format": form}
    if isinstance(body, MessagesRequest):
        sent |= {"temperature": sampling.temperature, "top_p": sampling.top_p}
    return sent
