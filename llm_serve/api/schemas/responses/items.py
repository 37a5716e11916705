"""The items of a Responses conversation: turns, calls of tools and what they gave, reasoning.

What the server answers may be sent back as it came, so the items of an answer are here too. Items
of tools that OpenAI runs on its own machines are unknown here, since nothing here runs them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from llm_serve.api.schemas.values import MAX_MESSAGES, Body, Few, TextOrList

Status = Literal["in_progress", "completed", "incomplete"]
Name = Annotated[str, Field(min_length=1, max_length=256)]
Parsed = Annotated[str, Field(max_length=1_048_576)]
"""Templates and engines parse it in one go."""
Id = Annotated[str, Field(min_length=1, max_length=256)]


def tag_of(value: Any, *known: str) -> str | None:
    """The branch of an object by its `type`; of one that is typed already, too."""
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return f"({kind})" if kind in known else None


class InputText(Body):
    """A piece of what was said to the model."""

    type: Literal["input_text"]
    text: str
    prompt_cache_breakpoint: dict[str, Any] | None = Field(
        None, description="Accepted; has no effect."
    )


class InputImage(Body):
    """A picture; only models of an engine that reads pictures take it."""

    type: Literal["input_image"]
    image_url: str
    detail: Literal["auto", "low", "high", "original"] | None = None


class OutputText(Body):
    """A piece of what the model said. Only `text` is read of it."""

    type: Literal["output_text"]
    text: str
    annotations: Few[list[dict[str, Any]]] | None = None
    logprobs: list[Any] | None = None


class RefusedText(Body):
    """What the model said in place of an answer."""

    type: Literal["refusal"]
    refusal: str


_PARTS = ("input_text", "input_image", "output_text", "refusal")
Part = Annotated[
    Annotated[InputText, Tag("(input_text)")]
    | Annotated[InputImage, Tag("(input_image)")]
    | Annotated[OutputText, Tag("(output_text)")]
    | Annotated[RefusedText, Tag("(refusal)")],
    Discriminator(
        lambda part: tag_of(part, *_PARTS),
        custom_error_type="part_type",
        custom_error_message="type should be 'input_text', 'input_image', 'output_text' or "
        "'refusal'",
    ),
]


class MessageItem(Body):
    """One turn; `type` may be left out."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: TextOrList[str, Few[list[Part]]]
    id: Id | None = None
    status: Status | None = None
    phase: Literal["commentary", "final_answer"] | None = None


class _Call(Body):
    call_id: Id
    name: Name
    namespace: Name | None = None
    id: Id | None = None
    status: Status | None = None


class FunctionCallItem(_Call):
    """A function that the model called; `arguments` are JSON text."""

    type: Literal["function_call"]
    arguments: Parsed


class CustomCallItem(_Call):
    """A custom tool that the model called, with any text."""

    type: Literal["custom_tool_call"]
    input: Parsed


_Output = TextOrList[str, Few[list[Part]]]


class FunctionOutputItem(Body):
    """What a function gave."""

    type: Literal["function_call_output"]
    call_id: Id
    output: _Output
    id: Id | None = None
    status: Status | None = None
    name: str | None = None
    namespace: str | None = None


class CustomOutputItem(Body):
    """What a custom tool gave."""

    type: Literal["custom_tool_call_output"]
    call_id: Id
    output: _Output
    id: Id | None = None
    status: Status | None = None
    name: str | None = None


class SummaryText(Body):
    """A piece of a summary of what the model thought."""

    type: Literal["summary_text"]
    text: str


class ReasoningText(Body):
    """A piece of what the model thought."""

    type: Literal["reasoning_text", "text"]
    text: str


class ReasoningItem(Body):
    """What the model thought before it went on."""

    type: Literal["reasoning"]
    id: str | None = None
    summary: Few[list[SummaryText]] | None = None
    content: Few[list[ReasoningText]] | None = None
    encrypted_content: str | None = Field(None, description="Of another server; it is refused.")
    status: Status | None = None


class ItemReference(Body):
    """An item of a stored response, by its id; `type` may be left out."""

    type: Literal["item_reference"] = "item_reference"
    id: Id


_ITEMS = (
    *("message", "function_call", "function_call_output", "custom_tool_call"),
    *("custom_tool_call_output", "reasoning", "item_reference"),
)


def _item_tag(item: Any) -> str | None:
    if isinstance(item, dict) and item.get("type") is None:
        return "(message)" if "role" in item or "id" not in item else "(item_reference)"
    return tag_of(item, *_ITEMS)


Item = Annotated[
    Annotated[MessageItem, Tag("(message)")]
    | Annotated[FunctionCallItem, Tag("(function_call)")]
    | Annotated[FunctionOutputItem, Tag("(function_call_output)")]
    | Annotated[CustomCallItem, Tag("(custom_tool_call)")]
    | Annotated[CustomOutputItem, Tag("(custom_tool_call_output)")]
    | Annotated[ReasoningItem, Tag("(reasoning)")]
    | Annotated[ItemReference, Tag("(item_reference)")],
    Discriminator(
        _item_tag,
        custom_error_type="other_type",
        custom_error_message="type should be 'message', 'function_call', 'function_call_output', "
        "'custom_tool_call', 'custom_tool_call_output', 'reasoning' or 'item_reference'; "
        "tools of other kinds are not run here",
    ),
]
Items = Annotated[list[Item], Field(max_length=MAX_MESSAGES, fail_fast=True)]
ITEM_BRANCHES = frozenset(f"({name})" for name in (*_ITEMS, *_PARTS))
"""Parts of an error's location that are no field."""
