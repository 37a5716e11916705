"""The tools of a Responses request as functions, and back: a custom tool is a function of one text,
a tool of a namespace a function whose name has both."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CUSTOM_PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {"input": {"type": "string"}},
    "required": ["input"],
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class NamedTool:
    """A tool as the request has it, which is JSON; `flat` is its function's name."""

    flat: str
    tool: Mapping[str, Any]
    namespace: str | None = None

    @property
    def name(self) -> str:
        return str(self.tool["name"])

    @property
    def custom(self) -> bool:
        return bool(self.tool["type"] == "custom")


def flat_name(name: str, namespace: str | None) -> str:
    """The name of the function that stands for a tool."""
    return name if namespace is None else f"{namespace}__{name}"


def named_tools(tools: Sequence[Mapping[str, Any]]) -> Iterator[NamedTool]:
    """Every tool, those of namespaces one by one."""
    for tool in tools:
        if tool["type"] != "namespace":
            yield NamedTool(tool["name"], tool)
            continue
        for inner in tool["tools"]:
            yield NamedTool(flat_name(inner["name"], tool["name"]), inner, tool["name"])


def custom_arguments(text: str) -> str:
    """The arguments of the function that stands for a custom tool which is given the text."""
    return json.dumps({"input": text}, ensure_ascii=False)


def custom_input(arguments: str) -> str:
    """The text in such arguments; what is no such JSON is itself the text."""
    try:
        value = json.loads(arguments)
    except ValueError:
        return arguments
    text = value.get("input") if isinstance(value, dict) else None
    return text if isinstance(text, str) else arguments
