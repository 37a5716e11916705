"""The body of `POST /v1/responses`, and the job that it is for a replica.

In two steps, since stored items may be asked for between them: `check_response` reads the body,
`response_job` makes the request of it and of the items that its conversation has in all.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import TypeAdapter, ValidationError

from llm_serve.api.parsing.allowlist import Fields, model_of
from llm_serve.api.parsing.capabilities import need
from llm_serve.api.parsing.explain import explain
from llm_serve.api.parsing.responses.conversation import messages
from llm_serve.api.parsing.responses.for_engine import engine_body
from llm_serve.api.parsing.responses.tools import callable_tools, given
from llm_serve.api.schemas.responses.items import Item, ItemReference, Items, MessageItem
from llm_serve.api.schemas.responses.request import (
    RESPONSE_BRANCHES,
    UNSUPPORTED,
    AllowedToolChoice,
    AnyJson,
    EngineResponsesRequest,
    NamedSchema,
    ResponsesRequest,
)
from llm_serve.api.schemas.values import MAX_MESSAGES
from llm_serve.backends import CAPABILITIES
from llm_serve.config import Config, ModelConfig
from llm_serve.errors import InvalidRequest, UnsupportedParameter
from llm_serve.generation.request import GenerationRequest
from llm_serve.sampling import Conversation, Guide, Sampling
from llm_serve.wire import to_json

PATH = "/v1/responses"
_LOGPROBS = "message.output_text.logprobs"
_ITEMS: TypeAdapter[list[Item]] = TypeAdapter(Items)


@dataclass(frozen=True, slots=True)
class Asked:
    """A body that is as it should be, and the model that it is for."""

    body: ResponsesRequest
    model: ModelConfig
    raw: tuple[dict[str, Any], ...]
    """Its items as they came; a text is a turn of the user."""

    @property
    def items(self) -> list[Item]:
        """The same, typed."""
        given = self.body.input
        return [MessageItem(role="user", content=given)] if isinstance(given, str) else given

    @property
    def references(self) -> frozenset[str]:
        """The ids of stored items that stand in the input."""
        return frozenset(item.id for item in self.items if isinstance(item, ItemReference))


def check_response(fields: Fields, config: Config) -> Asked:
    """Raises InvalidRequest and its children, also for what the model cannot do."""
    model = model_of(fields, config)
    need(model, "responses", PATH)
    extended = CAPABILITIES[model.backend].extensions
    schema = EngineResponsesRequest if extended else ResponsesRequest
    try:
        body = schema.model_validate(fields)
    except ValidationError as error:
        raise explain(error, UNSUPPORTED, RESPONSE_BRANCHES) from None
    if body.stream_options is not None and not body.stream:
        raise InvalidRequest("stream_options needs stream: true.", param="stream_options")
    if body.store and "store" in body.model_fields_set and not config.server.response_store_bytes:
        raise UnsupportedParameter(
            "store: this server keeps no responses; send false, or raise server.response_store_mb.",
            param="store",
        )
    _check_capabilities(body, model)
    asked = fields["input"]
    raw = [{"role": "user", "content": asked}] if isinstance(asked, str) else asked
    return Asked(body, model, tuple(raw))


def response_job(
    asked: Asked, earlier: Sequence[dict[str, Any]], referred: Mapping[str, dict[str, Any]]
) -> GenerationRequest:
    """The request: `earlier` are the items of the conversation that goes on, `referred` those that
    the input names by their ids. Raises InvalidRequest."""
    body, model = asked.body, asked.model
    items = _typed([*earlier, *referred.values()])
    found = dict(zip(referred, items[len(earlier) :], strict=True))
    items = items[: len(earlier)] + [
        found.get(item.id, item) if isinstance(item, ItemReference) else item
        for item in asked.items
    ]
    engine = CAPABILITIES[model.backend].extensions
    turns = messages(body.instructions, items, len(earlier), images=engine)
    tools = given(body)
    functions = callable_tools(tools, body)
    sampling = _sampling(body, model)
    request = GenerationRequest(
        id=f"resp_{uuid.uuid4().hex}",
        kind="engine" if engine else "chat",
        model=model.id,
        created=int(time.time()),
        sampling=sampling,
        stream=body.stream,
        dialect="responses",
        echo=_echo(body, tools, sampling),
        path=PATH,
    )
    if engine:
        sent = engine_body(request, body, items, functions)
        return replace(request, body=sent)
    return replace(request, conversation=Conversation(turns, functions, _template(body)))


def _typed(items: Sequence[dict[str, Any]]) -> list[Item]:
    """Stored items. Raises InvalidRequest where they are too many."""
    try:
        return _ITEMS.validate_python(items)
    except ValidationError:
        raise InvalidRequest(
            f"The conversation has more than {MAX_MESSAGES} items; send what matters of it as "
            "input.",
            param="previous_response_id",
        ) from None


def _check_capabilities(body: ResponsesRequest, model: ModelConfig) -> None:
    if _guide(body) is not None:
        need(model, "response_format", "text.format")
    if given(body):
        need(model, "tools")
        choice = body.tool_choice
        mode = choice.mode if isinstance(choice, AllowedToolChoice) else choice
        if mode not in ("auto", "none"):
            need(model, "response_format", "tool_choice")
    if (logprobs := _logprobs(body)) is not None:
        need(model, "logprobs", "top_logprobs" if logprobs else "include")
    if logprobs:
        need(model, "top_logprobs")


def _guide(body: ResponsesRequest) -> Guide | None:
    match body.text and body.text.format:
        case AnyJson():
            return Guide(param="text.format")
        case NamedSchema(schema_=schema):
            return Guide("json_schema", to_json(schema).decode(), param="text.format")
        case _:
            return None


def _logprobs(body: ResponsesRequest) -> int | None:
    """How many alternatives are wanted beside each token; None for no logprobs at all."""
    if body.top_logprobs:
        return body.top_logprobs
    return 0 if _LOGPROBS in (body.include or ()) else None


def _template(body: ResponsesRequest) -> dict[str, Any]:
    """Variables of the chat template."""
    effort = body.reasoning and body.reasoning.effort
    if effort is None:
        return {}
    return {"reasoning_effort": effort, "enable_thinking": effort != "none"}


def _sampling(body: ResponsesRequest, model: ModelConfig) -> Sampling:
    defaults = model.defaults
    return Sampling(
        temperature=defaults.temperature if body.temperature is None else body.temperature,
        top_p=defaults.top_p if body.top_p is None else body.top_p,
        max_tokens=body.max_output_tokens or defaults.max_tokens,
        logprobs=_logprobs(body),
        guide=_guide(body),
        final_only=not body.stream,
        adapter=body.model if body.model not in (None, model.id) else None,
    )


def _echo(
    body: ResponsesRequest, tools: list[dict[str, Any]], sampling: Sampling
) -> dict[str, Any]:
    """What the answer repeats, in the order in which OpenAI has it."""
    form = None if body.text is None else body.text.format
    text: dict[str, Any] = {
        "format": {"type": "text"}
        if form is None
        else form.model_dump(exclude_unset=True, by_alias=True)
    }
    if body.text is not None and body.text.verbosity is not None:
        text["verbosity"] = body.text.verbosity
    choice = body.tool_choice
    return {
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "max_tool_calls": body.max_tool_calls,
        "metadata": body.metadata or {},
        "parallel_tool_calls": body.parallel_tool_calls,
        "previous_response_id": body.previous_response_id,
        "prompt_cache_key": body.prompt_cache_key,
        "reasoning": {
            "effort": body.reasoning and body.reasoning.effort,
            "summary": None,
        },
        "safety_identifier": body.safety_identifier,
        "service_tier": "default",
        "temperature": sampling.temperature,
        "text": text,
        "tool_choice": choice if isinstance(choice, str) else choice.model_dump(),
        "tools": tools,
        "top_logprobs": body.top_logprobs or 0,
        "top_p": sampling.top_p,
        "truncation": "disabled",
        "user": body.user,
    }
