"""The blocks that messages are made of, and the turns."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, Tag

from llm_serve.api.schemas.messages.lenient import Id, Ignored, Lenient, Name, chosen_by
from llm_serve.api.schemas.values import BRANCHES, Few, TextOrList


class TextBlock(Lenient):
    """Text of any turn."""

    type: Literal["text"]
    text: str
    citations: Ignored = None
    cache_control: Ignored = None


class ImageBlock(Lenient):
    """An image, for a model that sees."""

    type: Literal["image"]
    source: dict[str, Any]
    cache_control: Ignored = None


class ThinkingBlock(Lenient):
    """Reasoning of a former turn."""

    type: Literal["thinking"]
    thinking: str
    signature: str = ""


class RedactedThinkingBlock(Lenient):
    """Reasoning that only another server can read: it is left out."""

    type: Literal["redacted_thinking"]
    data: str


class ToolUseBlock(Lenient):
    """A call of a former turn."""

    type: Literal["tool_use"]
    id: Id
    name: Name
    input: dict[str, Any]
    caller: Ignored = None
    toolset_name: Ignored = None
    cache_control: Ignored = None


class ToolReferenceBlock(Lenient):
    """What a search for tools found: a tool of `defer_loading`, which is offered from here on."""

    type: Literal["tool_reference"]
    tool_name: Name
    cache_control: Ignored = None


class ToolReference(Lenient):
    """A tool of the request, by its name."""

    type: Literal["tool_reference"]
    name: Name


class ToolAdditionBlock(Lenient):
    """Offers a tool from here on."""

    type: Literal["tool_addition"]
    tool: ToolReference
    cache_control: Ignored = None


class ToolRemovalBlock(Lenient):
    """Offers a tool no longer."""

    type: Literal["tool_removal"]
    tool: ToolReference
    cache_control: Ignored = None


_Text = Annotated[TextBlock, Tag("(text)")]
_Image = Annotated[ImageBlock, Tag("(image)")]
ResultBlock = Annotated[
    _Text | _Image | Annotated[ToolReferenceBlock, Tag("(tool_reference)")],
    chosen_by("type", "text", "image", "tool_reference"),
]


class ToolResultBlock(Lenient):
    """What a call gave."""

    type: Literal["tool_result"]
    tool_use_id: Id
    content: TextOrList[str, Few[list[ResultBlock]]] | None = None
    is_error: bool = False
    toolset_name: Ignored = None
    cache_control: Ignored = None


UserBlock = Annotated[
    _Text | _Image | Annotated[ToolResultBlock, Tag("(tool_result)")],
    chosen_by("type", "text", "image", "tool_result"),
]
AssistantBlock = Annotated[
    _Text
    | Annotated[ToolUseBlock, Tag("(tool_use)")]
    | Annotated[ThinkingBlock, Tag("(thinking)")]
    | Annotated[RedactedThinkingBlock, Tag("(redacted_thinking)")],
    chosen_by("type", "text", "tool_use", "thinking", "redacted_thinking"),
]
SystemBlock = Annotated[
    _Text
    | Annotated[ToolAdditionBlock, Tag("(tool_addition)")]
    | Annotated[ToolRemovalBlock, Tag("(tool_removal)")],
    chosen_by("type", "text", "tool_addition", "tool_removal"),
]


class UserTurn(Lenient):
    """What the person said, or what tools gave."""

    role: Literal["user"]
    content: TextOrList[str, Annotated[Few[list[UserBlock]], Field(min_length=1)]]


class AssistantTurn(Lenient):
    """What the model said; as the last turn, what it is to go on from."""

    role: Literal["assistant"]
    content: TextOrList[str, Annotated[Few[list[AssistantBlock]], Field(min_length=1)]]


class SystemTurn(Lenient):
    """Instructions in the middle of the conversation."""

    role: Literal["system"]
    content: TextOrList[str, Few[list[SystemBlock]]] = ""
    clear_at: Literal["next_user_message", "never"] | None = None
    output_config: Ignored = None


Turn = Annotated[
    Annotated[UserTurn, Tag("(user)")]
    | Annotated[AssistantTurn, Tag("(assistant)")]
    | Annotated[SystemTurn, Tag("(system)")],
    chosen_by("role", "user", "assistant", "system"),
]
TAGS = BRANCHES | frozenset(
    f"({name})"
    for name in (
        *("text", "image", "thinking", "redacted_thinking", "tool_use", "tool_result"),
        *("tool_reference", "tool_addition", "tool_removal", "user", "assistant", "system"),
    )
)
"""Parts of an error's location that are no field."""
