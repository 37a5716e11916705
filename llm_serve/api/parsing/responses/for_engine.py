"""A Responses request as the engine's own server (vLLM) takes it.

Stored items are in it, and the store is off, so that there is one for every backend; tools are
functions, since vLLM takes no grammars; what has no effect is left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from llm_serve.api.parsing.by_engine import functions_of
from llm_serve.api.parsing.responses.conversation import text_of
from llm_serve.api.schemas.responses.items import (
    CustomCallItem,
    CustomOutputItem,
    FunctionCallItem,
    FunctionOutputItem,
    Item,
    MessageItem,
    ReasoningItem,
)
from llm_serve.api.schemas.responses.request import ENGINE_FIELDS, ResponsesRequest
from llm_serve.generation.request import GenerationRequest
from llm_serve.generation.tool_names import custom_arguments, flat_name
from llm_serve.sampling import Tools
from llm_serve.wire import to_json


def engine_body(
    request: GenerationRequest, body: ResponsesRequest, items: Iterable[Item], tools: Tools | None
) -> bytes:
    """The JSON for vLLM's own `/v1/responses`."""
    sampling = request.sampling
    sent: dict[str, Any] = {
        "request_id": request.id,
        "model": request.answers_as,
        "input": [_item(item, index) for index, item in enumerate(items)],
        "instructions": body.instructions,
        "store": False,
        "stream": body.stream,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_output_tokens": sampling.max_tokens,
    }
    if body.text is not None and body.text.format is not None:
        sent["text"] = {"format": body.text.format.model_dump(exclude_unset=True, by_alias=True)}
    if body.reasoning is not None and body.reasoning.effort is not None:
        sent["reasoning"] = {"effort": body.reasoning.effort}
    if sampling.logprobs is not None:
        sent["include"] = ["message.output_text.logprobs"]
        sent["top_logprobs"] = sampling.logprobs
    if tools is not None:
        named = {"type": "function", "name": tools.name}
        sent["tools"] = [{"type": "function", **function} for function in functions_of(tools)]
        sent["tool_choice"] = named if tools.choice == "named" else tools.choice
        sent["parallel_tool_calls"] = tools.parallel
    sent |= {name: getattr(body, name) for name in ENGINE_FIELDS & body.model_fields_set}
    return to_json(sent)


def _item(item: Item, index: int) -> dict[str, Any]:
    """The item with all that vLLM wants in it, ids above all."""
    match item:
        case MessageItem(role="assistant"):
            text = text_of(item.content, "input")
            part = {"type": "output_text", "text": text, "annotations": []}
            return {
                "type": "message",
                "id": f"msg_{index}",
                "role": "assistant",
                "status": "completed",
                "content": [part],
            }
        case MessageItem():
            return item.model_dump(include={"role", "content"}, exclude_none=True)
        case FunctionCallItem():
            return _call(item, index, item.arguments)
        case CustomCallItem():
            return _call(item, index, custom_arguments(item.input))
        case FunctionOutputItem() | CustomOutputItem():
            return {
                "type": "function_call_output",
                "call_id": item.call_id,
                **item.model_dump(include={"output"}, exclude_none=True),
            }
        case ReasoningItem():
            texts = [part.text for part in item.content or item.summary or ()]
            return {
                "type": "reasoning",
                "id": f"rs_{index}",
                "summary": [],
                "content": [{"type": "reasoning_text", "text": text} for text in texts],
            }
        case _:
            raise AssertionError("conversation.messages refuses references first")


def _call(item: FunctionCallItem | CustomCallItem, index: int, arguments: str) -> dict[str, Any]:
    return {
        "type": "function_call",
        "id": f"fc_{index}",
        "call_id": item.call_id,
        "name": flat_name(item.name, item.namespace),
        "arguments": arguments,
    }
