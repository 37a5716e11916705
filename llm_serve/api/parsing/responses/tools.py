"""The tools of a Responses request as the functions that a model may call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llm_serve.api.schemas.responses.request import AllowedToolChoice, ChosenTool, ResponsesRequest
from llm_serve.errors import InvalidRequest
from llm_serve.generation.tool_names import CUSTOM_PARAMETERS, NamedTool, named_tools
from llm_serve.sampling import Tools


def given(body: ResponsesRequest) -> list[dict[str, Any]]:
    """The tools that the model is given, as the request has them."""
    return [
        tool.model_dump(exclude_unset=True)
        for tool in body.tools or ()
        if not tool.type.startswith("web_search")
    ]


def callable_tools(tools: Sequence[dict[str, Any]], body: ResponsesRequest) -> Tools | None:
    """The functions for them, and whether one must be called. Raises InvalidRequest."""
    known: dict[str, NamedTool] = {}
    for tool in named_tools(tools):
        if tool.flat in known:
            raise InvalidRequest(
                f"tools: two tools are called {tool.flat!r}; names must differ.", param="tools"
            )
        known[tool.flat] = tool
    choice = body.tool_choice
    if not known:
        if choice not in ("auto", "none"):
            raise InvalidRequest(
                "tool_choice: there is no tool to call; send tools, or leave it out.",
                param="tool_choice",
            )
        return None
    if isinstance(choice, ChosenTool):
        name = _find(choice, known, "tool_choice.name").flat
        return Tools(_functions(known), "named", name, body.parallel_tool_calls)
    if isinstance(choice, AllowedToolChoice):
        allowed = {
            tool.flat: tool
            for index, one in enumerate(choice.tools)
            for tool in [_find(one, known, f"tool_choice.tools[{index}].name")]
        }
        return Tools(_functions(allowed), choice.mode, None, body.parallel_tool_calls)
    return Tools(_functions(known), choice, None, body.parallel_tool_calls)


def _find(chosen: ChosenTool, known: dict[str, NamedTool], param: str) -> NamedTool:
    """The tool of that name, which may leave its namespace out. Raises InvalidRequest."""
    found = [
        tool
        for tool in known.values()
        if chosen.name in (tool.flat, tool.name) and tool.custom == (chosen.type == "custom")
    ]
    exact = [tool for tool in found if tool.flat == chosen.name]
    if len(exact or found) != 1:
        what = "no tool is" if not found else "several tools are"
        raise InvalidRequest(
            f"{param}: {what} called {chosen.name!r}; name one of {', '.join(sorted(known))}."[
                :1000
            ],
            param=param,
        )
    return (exact or found)[0]


def _functions(tools: dict[str, NamedTool]) -> tuple[dict[str, Any], ...]:
    return tuple(_function(tool) for tool in tools.values())


def _function(named: NamedTool) -> dict[str, Any]:
    """OpenAI's function object for a tool."""
    tool = named.tool
    function: dict[str, Any] = {"name": named.flat}
    described = tool.get("description") or ""
    form = tool.get("format") or {}
    if form.get("type") == "grammar":
        grammar = f"The input obeys this {form['syntax']} grammar:\n{form['definition']}"
        described = f"{described}\n\n{grammar}".strip()
    if described:
        function["description"] = described
    if named.custom:
        return {**function, "parameters": CUSTOM_PARAMETERS}
    return function | {k: tool[k] for k in ("parameters", "strict") if tool.get(k) is not None}
