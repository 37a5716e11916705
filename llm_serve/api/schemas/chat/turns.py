"""The turns of a conversation, told apart by their role."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from llm_serve.api.schemas.values import (
    MEDIA,
    PLAIN,
    RESULT,
    SAID,
    TEXT,
    Body,
    Few,
    TextOrList,
    by_member,
)

_ROLES = ("system", "developer", "user", "assistant", "tool")


class TextPart(Body):
    """A piece of text."""

    type: Literal["text"]
    text: str


class RefusalPart(Body):
    """A piece of what the model said when it refused."""

    type: Literal["refusal"]
    refusal: str


class MediaPart(BaseModel):
    """What a multimodal model reads; its engine checks the rest of it."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    type: Literal["image_url", "input_audio", "audio_url", "video_url"]


Part = Annotated[
    Annotated[TextPart, TEXT] | Annotated[MediaPart, MEDIA],
    by_member(
        "type", dict.fromkeys(("image_url", "input_audio", "audio_url", "video_url"), MEDIA), TEXT
    ),
]
SaidPart = Annotated[
    Annotated[TextPart, TEXT] | Annotated[RefusalPart, SAID],
    by_member("type", {"refusal": SAID}, TEXT),
]
Content = TextOrList[str, Annotated[Few[list[Part]], Field(min_length=1)]]
Said = TextOrList[str, Annotated[Few[list[SaidPart]], Field(min_length=1)]]


class FunctionCall(Body):
    """A function that the model called, its arguments as JSON text."""

    name: Annotated[str, Field(min_length=1, max_length=256)]
    arguments: Annotated[str, Field(max_length=1_048_576)]
    parsed_arguments: Any = Field(None, description="As OpenAI's SDK parsed them; not read.")


class ToolCall(Body):
    """A call of a former turn."""

    id: Annotated[str, Field(min_length=1, max_length=256)]
    type: Literal["function"]
    function: FunctionCall
    index: int | None = Field(None, description="As a stream counted it; not read.")


def _one_of_all(role: Any) -> Any:
    """Names all roles where it is none of them; this turn's own type knows but three."""
    if not isinstance(role, str) or role not in _ROLES:
        raise PydanticCustomError(
            "literal_error", "Input should be 'system', 'developer', 'user', 'assistant' or 'tool'"
        )
    return role


class Turn(Body):
    """What is said to the model."""

    role: Annotated[Literal["system", "developer", "user"], BeforeValidator(_one_of_all)]
    content: Content
    name: str | None = None

    def templated(self) -> dict[str, Any]:
        """The turn as a chat template reads it; see `Conversation`."""
        turn = {"role": self.role, "content": text_of(self.content)}
        if self.name is not None:
            turn["name"] = self.name
        return turn

    @property
    def is_plain(self) -> bool:
        """Whether it is text and nothing else, so that any model's template takes it."""
        return isinstance(self.content, str) or not any(
            isinstance(part, MediaPart) for part in self.content
        )


class AssistantTurn(Body):
    """What the model said; it may be that it called tools."""

    role: Literal["assistant"]
    content: Said | None = None
    name: str | None = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=128, fail_fast=True)] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = Field(None, description="Another name of `reasoning_content`.")
    annotations: Few[list[Any]] | None = Field(None, description="Accepted; not read.")
    parsed: Any = Field(None, description="As OpenAI's SDK parsed the content; not read.")

    def templated(self) -> dict[str, Any]:
        """See `Turn`."""
        said = self.refusal if self.content is None else text_of(self.content)
        turn: dict[str, Any] = {"role": "assistant", "content": said or ""}
        if self.name is not None:
            turn["name"] = self.name
        if thought := self.reasoning_content or self.reasoning:
            turn["reasoning_content"] = thought
        if self.tool_calls:
            turn["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.function.name, "arguments": call.function.arguments},
                }
                for call in self.tool_calls
            ]
        return turn

    @property
    def is_plain(self) -> bool:
        """See `Turn`."""
        return not (self.tool_calls or self.reasoning_content or self.reasoning)


class ToolTurn(Body):
    """What a tool answered to a call."""

    role: Literal["tool"]
    content: Content
    tool_call_id: Annotated[str, Field(min_length=1, max_length=256)]
    name: str | None = None

    def templated(self) -> dict[str, Any]:
        """See `Turn`."""
        turn = {
            "role": "tool",
            "content": text_of(self.content),
            "tool_call_id": self.tool_call_id,
        }
        if self.name is not None:
            turn["name"] = self.name
        return turn

    @property
    def is_plain(self) -> bool:
        """See `Turn`."""
        return False


Message: TypeAlias = Annotated[
    Annotated[Turn, PLAIN] | Annotated[AssistantTurn, SAID] | Annotated[ToolTurn, RESULT],
    by_member("role", {"assistant": SAID, "tool": RESULT}, PLAIN),
]


def text_of(content: str | list[TextPart | MediaPart] | list[TextPart | RefusalPart]) -> str:
    """The text of a content, its parts joined."""
    if isinstance(content, str):
        return content
    texts = []
    for part in content:
        if isinstance(part, TextPart):
            texts.append(part.text)
        elif isinstance(part, RefusalPart):
            texts.append(part.refusal)
    return "".join(texts)
