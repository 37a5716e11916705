"""The items of one answer of the Responses route, made of deltas: reasoning, text and calls, in the
order in which they come. Each change is an event: its type, and its members.

The id of an item has that of its response in it, so that a stored item can be found by its id.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from llm_serve.generation.tool_names import NamedTool, custom_input, named_tools
from llm_serve.sampling import CallDelta, Delta, TokenLogprob

Event = tuple[str, dict[str, Any]]
Status = Literal["in_progress", "completed", "incomplete"]
_PREFIXES = ("msg_", "rs_", "fc_", "ctc_")


def response_of(item_id: str) -> str | None:
    """The id of the response that an item is of, from the item's id."""
    prefix, _, rest = item_id.partition("_")
    owner, _, index = rest.rpartition("_")
    return f"resp_{owner}" if f"{prefix}_" in _PREFIXES and owner and index.isdecimal() else None


class _Item:
    """One item in the making."""

    prefix: str

    def __init__(self, response_id: str, index: int) -> None:
        self.id = f"{self.prefix}{response_id.removeprefix('resp_')}_{index}"
        self._texts: list[str] = []
        self._at = {"item_id": self.id, "output_index": index}
        self.status: Status = "in_progress"

    @property
    def text(self) -> str:
        return "".join(self._texts)

    def begun(self) -> Iterator[Event]:
        index = self._at["output_index"]
        yield "response.output_item.added", {"output_index": index, "item": self.view()}

    def ended(self, status: Status) -> Iterator[Event]:
        self.status = status
        index = self._at["output_index"]
        yield "response.output_item.done", {"output_index": index, "item": self.view()}

    def view(self) -> dict[str, Any]:
        raise NotImplementedError


class _Reasoning(_Item):
    prefix = "rs_"

    def view(self) -> dict[str, Any]:
        content = [{"type": "reasoning_text", "text": self.text}] if self._texts else []
        return {
            "id": self.id,
            "type": "reasoning",
            "summary": [],
            "content": content,
            "status": self.status,
        }

    def begun(self) -> Iterator[Event]:
        yield from super().begun()
        part = {"type": "reasoning_text", "text": ""}
        yield "response.content_part.added", {**self._at, "content_index": 0, "part": part}

    def gains(self, text: str) -> Iterator[Event]:
        self._texts.append(text)
        yield "response.reasoning_text.delta", {**self._at, "content_index": 0, "delta": text}

    def ended(self, status: Status) -> Iterator[Event]:
        at = {**self._at, "content_index": 0}
        part = {"type": "reasoning_text", "text": self.text}
        yield "response.reasoning_text.done", {**at, "text": self.text}
        yield "response.content_part.done", {**at, "part": part}
        yield from super().ended(status)


class _Message(_Item):
    prefix = "msg_"

    def __init__(self, response_id: str, index: int) -> None:
        super().__init__(response_id, index)
        self._logprobs: list[TokenLogprob] = []
        self._opened = False

    def _part(self) -> dict[str, Any]:
        return {
            "type": "output_text",
            "text": self.text,
            "annotations": [],
            "logprobs": [_logprob(token, with_bytes=True) for token in self._logprobs],
        }

    def view(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "status": self.status,
            "content": [self._part()] if self._opened else [],
        }

    def begun(self) -> Iterator[Event]:
        yield from super().begun()
        yield (
            "response.content_part.added",
            {**self._at, "content_index": 0, "part": self._part()},
        )
        self._opened = True

    def gains(self, text: str, logprobs: Sequence[TokenLogprob]) -> Iterator[Event]:
        self._texts.append(text)
        self._logprobs.extend(logprobs)
        yield (
            "response.output_text.delta",
            {
                **self._at,
                "content_index": 0,
                "delta": text,
                "logprobs": [_logprob(token) for token in logprobs],
            },
        )

    def ended(self, status: Status) -> Iterator[Event]:
        at = {**self._at, "content_index": 0}
        logprobs = [_logprob(token) for token in self._logprobs]
        yield "response.output_text.done", {**at, "text": self.text, "logprobs": logprobs}
        yield "response.content_part.done", {**at, "part": self._part()}
        yield from super().ended(status)


class _Call(_Item):
    """A call of a function."""

    prefix = "fc_"

    def __init__(
        self, response_id: str, index: int, first: CallDelta, tool: NamedTool | None
    ) -> None:
        super().__init__(response_id, index)
        self.number = first.index
        self._named: dict[str, Any] = {
            "call_id": first.id or f"call_{response_id.removeprefix('resp_')}_{index}",
            "name": (first.name or "") if tool is None else tool.name,
        }
        if tool is not None and tool.namespace is not None:
            self._named["namespace"] = tool.namespace

    def view(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "type": "function_call",
            "status": self.status,
            **self._named,
            "arguments": self.text,
        }

    def gains(self, arguments: str) -> Iterator[Event]:
        self._texts.append(arguments)
        yield "response.function_call_arguments.delta", {**self._at, "delta": arguments}

    def ended(self, status: Status) -> Iterator[Event]:
        yield "response.function_call_arguments.done", {**self._at, "arguments": self.text}
        yield from super().ended(status)


class _CustomCall(_Call):
    """A call of a custom tool; its text is known once the arguments are whole."""

    prefix = "ctc_"

    def view(self) -> dict[str, Any]:
        text = "" if self.status == "in_progress" else custom_input(self.text)
        return {"id": self.id, "type": "custom_tool_call", **self._named, "input": text}

    def gains(self, arguments: str) -> Iterator[Event]:
        self._texts.append(arguments)
        return iter(())

    def ended(self, status: Status) -> Iterator[Event]:
        text = custom_input(self.text)
        yield "response.custom_tool_call_input.delta", {**self._at, "delta": text}
        yield "response.custom_tool_call_input.done", {**self._at, "input": text}
        yield from _Item.ended(self, status)


class Output:
    """All items of an answer; at most the last one is not over."""

    def __init__(self, response_id: str, tools: Sequence[Mapping[str, Any]]) -> None:
        self._response_id = response_id
        self._tools = {tool.flat: tool for tool in named_tools(tools)}
        self._items: list[_Item] = []

    def view(self) -> list[dict[str, Any]]:
        return [item.view() for item in self._items]

    def take(self, delta: Delta) -> Iterator[Event]:
        """What a delta changes."""
        if delta.reasoning:
            last = self._last()
            if not isinstance(last, _Reasoning):
                last = _Reasoning(self._response_id, len(self._items))
                yield from self._begin(last)
            yield from last.gains(delta.reasoning)
        if delta.text or (delta.logprobs and not delta.reasoning and not delta.calls):
            last = self._last()
            if not isinstance(last, _Message):
                last = _Message(self._response_id, len(self._items))
                yield from self._begin(last)
            yield from last.gains(delta.text, delta.logprobs)
        for piece in delta.calls:
            last = self._last()
            if not isinstance(last, _Call) or last.number != piece.index:
                tool = self._tools.get(piece.name or "")
                kind = _CustomCall if tool is not None and tool.custom else _Call
                last = kind(self._response_id, len(self._items), piece, tool)
                yield from self._begin(last)
            if piece.arguments:
                yield from last.gains(piece.arguments)

    def end(self, status: Status) -> Iterator[Event]:
        """The end of the last item; an answer of nothing is a text of nothing."""
        if not self._items:
            empty = _Message(self._response_id, 0)
            yield from self._begin(empty)
        yield from self._items[-1].ended(status)

    def stop(self) -> None:
        """The answer failed; what was begun stays as it is."""
        if self._items and self._items[-1].status == "in_progress":
            self._items[-1].status = "incomplete"

    def _last(self) -> _Item | None:
        return self._items[-1] if self._items else None

    def _begin(self, item: _Item) -> Iterator[Event]:
        if (last := self._last()) is not None:
            yield from last.ended("completed")
        self._items.append(item)
        yield from item.begun()


def _logprob(token: TokenLogprob, with_bytes: bool = False) -> dict[str, Any]:
    """As a part of the answer has it, or as an event has it, which has no bytes."""

    def one(text: str, data: bytes, logprob: float) -> dict[str, Any]:
        shown: dict[str, Any] = {"token": text, "logprob": logprob}
        return shown | {"bytes": list(data)} if with_bytes else shown

    top = [one(*alternative) for alternative in token.top]
    return {**one(token.token, token.token_bytes, token.logprob), "top_logprobs": top}
