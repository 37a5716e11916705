"""Items of a Responses conversation as the turns that a chat template reads.

ReasoningItem, text and calls that follow each other are one turn of the assistant. Instructions and
the system turns that follow them are one, since many templates take one, at the beginning.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from llm_serve.api.schemas.responses.items import (
    CustomCallItem,
    CustomOutputItem,
    FunctionCallItem,
    FunctionOutputItem,
    InputImage,
    Item,
    ItemReference,
    MessageItem,
    ReasoningItem,
    RefusedText,
)
from llm_serve.errors import InvalidRequest, UnsupportedParameter
from llm_serve.generation.tool_names import custom_arguments, flat_name


def messages(
    instructions: str | None, items: Iterable[Item], earlier: int = 0, images: bool = False
) -> tuple[dict[str, Any], ...]:
    """The turns, as `llm_serve.sampling.Conversation` has them. Raises InvalidRequest.

    The first `earlier` items are not of the input. With `images` they are left out, for a caller
    who wants to know only whether all is in order; else they are refused.
    """
    turns = _Turns(images)
    if instructions is not None:
        turns.say({"role": "system", "content": instructions})
    for index, item in enumerate(items):
        where = f"input[{index - earlier}]" if index >= earlier else "previous_response_id"
        turns.add(item, where)
    if not (done := turns.done()):
        raise InvalidRequest("input: nothing is said in it; add a message.", param="input")
    return done


class _Turns:
    def __init__(self, images: bool) -> None:
        self._images = images
        self._turns: list[dict[str, Any]] = []
        self._turn: dict[str, Any] | None = None
        """The assistant's turn that is not over."""
        self._called: dict[str, str] = {}
        """The name of the function of each call."""

    def done(self) -> tuple[dict[str, Any], ...]:
        return tuple(self._turns)

    def say(self, turn: dict[str, Any]) -> None:
        """A turn of somebody else ends that of the assistant."""
        self._turn = None
        self._turns.append(turn)

    def add(self, item: Item, where: str) -> None:
        match item:
            case MessageItem(role="assistant"):
                self._assistant("content")["content"] = text_of(item.content, where)
            case MessageItem():
                text = text_of(item.content, where, self._images)
                self.say({"role": item.role, "content": text})
            case ReasoningItem():
                thought = _thought(item, where)
                if thought:
                    self._assistant("content")["reasoning_content"] = thought
            case FunctionCallItem():
                self._call(item.call_id, flat_name(item.name, item.namespace), item.arguments)
            case CustomCallItem():
                name = flat_name(item.name, item.namespace)
                self._call(item.call_id, name, custom_arguments(item.input))
            case FunctionOutputItem() | CustomOutputItem():
                self._output(item.call_id, text_of(item.output, where, self._images), where)
            case ItemReference():
                raise InvalidRequest(
                    f"{where}: there is no stored item {item.id[:100]!r}; send the item itself.",
                    param=where,
                )

    def _assistant(self, member: str) -> dict[str, Any]:
        """The assistant's turn, a new one where this one has that member, or calls, already."""
        turn = self._turn
        if turn is None or turn.get(member) or ("tool_calls" in turn and member != "tool_calls"):
            turn = self._turn = {"role": "assistant", "content": ""}
            self._turns.append(turn)
        return turn

    def _call(self, call_id: str, name: str, arguments: str) -> None:
        turn = self._turn
        if turn is None:
            turn = self._assistant("content")
        self._called[call_id] = name
        turn.setdefault("tool_calls", []).append(
            {
                "id": call_id,
                "type": "function",
                "function": {"name": name, "arguments": arguments},
            }
        )

    def _output(self, call_id: str, text: str, where: str) -> None:
        if call_id not in self._called:
            raise InvalidRequest(
                f"{where}: no tool call has the call_id {call_id[:100]!r}; send the call before "
                "its output, or name the response that made it as previous_response_id.",
                param=f"{where}.call_id",
            )
        self.say({"role": "tool", "tool_call_id": call_id, "content": text})


def text_of(content: Any, where: str, images: bool = False) -> str:
    """The text of a content or an output, its parts joined. Raises UnsupportedParameter for images,
    unless they may be left out."""
    if isinstance(content, str):
        return content
    texts = []
    for index, part in enumerate(content):
        if isinstance(part, InputImage):
            if images:
                continue
            raise UnsupportedParameter(
                f"{where}: this model reads no images; leave them out, or ask one that does.",
                param=f"{where}.content[{index}]",
            )
        texts.append(part.refusal if isinstance(part, RefusedText) else part.text)
    return "".join(texts)


def _thought(item: ReasoningItem, where: str) -> str:
    if item.encrypted_content and not item.content:
        raise UnsupportedParameter(
            f"{where}: encrypted reasoning is of another server, and cannot be read here; leave "
            "the item out.",
            param=f"{where}.encrypted_content",
        )
    return "".join(part.text for part in item.content or item.summary or ())
