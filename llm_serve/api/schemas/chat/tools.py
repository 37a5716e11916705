"""The functions that a model may call, and whether it must."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from llm_serve.api.schemas.values import MANY, TEXT, TOOL, Body, by_member
from llm_serve.errors import InvalidRequest
from llm_serve.sampling import Tools

MAX_TOOLS = 128
"""OpenAI's bound."""
FunctionName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


def _describes_an_object(schema: Any) -> Any:
    """Arguments are an object by their names; a schema of anything else allows none."""
    if isinstance(schema, dict) and schema.get("type", "object") != "object":
        raise PydanticCustomError(
            "parameters_type", "It should be a JSON Schema of type 'object', or have no type"
        )
    return schema


Parameters = Annotated[
    dict[str, Any],
    BeforeValidator(_describes_an_object),
    Field(json_schema_extra={"properties": {"type": {"const": "object"}}}),
]


class Function(Body):
    """A function that the model may call; `parameters` is a JSON Schema."""

    name: FunctionName
    description: str | None = None
    parameters: Parameters | None = None
    strict: bool | None = None


class Tool(Body):
    """A tool that the model may use."""

    type: Literal["function"]
    function: Function

    def described(self) -> dict[str, Any]:
        """OpenAI's function object, as `Tools` has it."""
        function = self.function
        described = {name: getattr(function, name) for name in Function.model_fields}
        return {name: value for name, value in described.items() if value is not None}


class Named(Body):
    """A function by its name."""

    name: str


class NamedTool(Body):
    """The tool that is to be used."""

    type: Literal["function"]
    function: Named


class AllowedTools(Body):
    """Some of the tools, and whether one of them must be used."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedTool], Field(min_length=1, max_length=MAX_TOOLS, fail_fast=True)]


class AllowedChoice(Body):
    """Only these tools may be used."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


ToolList: TypeAlias = Annotated[
    list[Tool], Field(min_length=1, max_length=MAX_TOOLS, fail_fast=True)
]
ToolChoice: TypeAlias = Annotated[
    Annotated[Literal["none", "auto", "required"], TEXT]
    | Annotated[NamedTool, TOOL]
    | Annotated[AllowedChoice, MANY],
    by_member("type", {"allowed_tools": MANY}, TOOL, TEXT),
]


def tools_of(
    tools: list[Tool] | None, choice: str | NamedTool | AllowedChoice | None, parallel: bool | None
) -> Tools | None:
    """The tools of a request and what is to be done with them; None where there are none.

    Raises InvalidRequest for what does not go together.
    """
    if tools is None:
        if choice is None or choice == "none":
            return None
        raise InvalidRequest("tool_choice needs tools; send both or neither.", param="tool_choice")
    functions = {tool.function.name: tool.described() for tool in tools}
    if len(functions) < len(tools):
        names = [tool.function.name for tool in tools]
        at, name = next((i, n) for i, n in enumerate(names) if n in names[:i])
        raise InvalidRequest(
            f"tools[{at}].function.name: {name!r} is there twice; give each function its own name.",
            param=f"tools[{at}].function.name",
        )
    mode: Literal["auto", "none", "required", "named"] = "auto"
    called: str | None = None
    match choice:
        case "none" | "auto" | "required":
            mode = choice
        case NamedTool():
            mode, called = "named", _known(choice, functions, "tool_choice.function.name")
        case AllowedChoice(allowed_tools=allowed):
            mode = allowed.mode
            path = "tool_choice.allowed_tools.tools[{}].function.name"
            kept = {_known(t, functions, path.format(i)) for i, t in enumerate(allowed.tools)}
            functions = {name: one for name, one in functions.items() if name in kept}
    return Tools(tuple(functions.values()), mode, called, parallel is not False)


def _known(tool: NamedTool, functions: dict[str, Any], path: str) -> str:
    name = tool.function.name
    if name not in functions:
        known = ", ".join(list(functions)[:20])
        raise InvalidRequest(
            f"{path}: no function of tools is named {name[:64]!r}; there are: {known}.", param=path
        )
    return name
