"""What of a Messages request the model is shown: the tools on offer, the turns that still count.

Claude Code sends the schemas of all its tools and most of them deferred: they are offered once a
search for tools found them. Templates know one list of tools, so the one in effect at the end of
the conversation is theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

from llm_serve.api.schemas.messages.blocks import (
    AssistantTurn,
    SystemTurn,
    TextBlock,
    ThinkingBlock,
    ToolAdditionBlock,
    ToolReferenceBlock,
    ToolRemovalBlock,
    ToolResultBlock,
    Turn,
    UserBlock,
    UserTurn,
)
from llm_serve.api.schemas.messages.requests import CountTokensRequest, MessagesTool
from llm_serve.errors import InvalidRequest

_Request = TypeVar("_Request", bound=CountTokensRequest)
_ERROR = TextBlock(type="text", text="Error:")
_BILLING = "x-anthropic-billing-header"
"""What a block of Claude Code's system prompt begins with. It says who pays, in words that change
with every version, and whatever stands behind it would be computed again."""


def edited(body: _Request) -> _Request:
    """The request with the tools that are on offer, and less what was cleared. Raises
    InvalidRequest."""
    tools = _offered(body)
    system = body.system
    if isinstance(system, list):
        system = [block for block in system if not block.text.startswith(_BILLING)]
    turns = _without_old_thinking(body, list(_standing(body.messages)))
    return body.model_copy(update={"messages": turns, "tools": tools, "system": system})


def _offered(body: CountTokensRequest) -> list[MessagesTool]:
    tools = {tool.name: tool for tool in body.tools or ()}
    if len(tools) < len(body.tools or ()):
        names = [tool.name for tool in body.tools or ()]
        at = next(i for i, name in enumerate(names) if name in names[:i])
        raise InvalidRequest(
            f"tools[{at}].name: {names[at]!r} is there twice; give each tool its own name.",
            param=f"tools[{at}].name",
        )
    on_offer = {name: not tool.defer_loading for name, tool in tools.items()}
    for path, name, offer in _changes(body.messages):
        if name not in tools:
            raise InvalidRequest(f"{path}: no tool of tools is named {name!r}.", param=path)
        on_offer[name] = offer
    return [tool for name, tool in tools.items() if on_offer[name]]


def _changes(turns: list[Turn]) -> Iterator[tuple[str, str, bool]]:
    """The field that offers or withdraws a tool, the tool's name, and which of the two."""
    for i, turn in enumerate(turns):
        for j, block in enumerate(turn.content if isinstance(turn.content, list) else ()):
            path = f"messages[{i}].content[{j}]"
            match block:
                case ToolAdditionBlock() | ToolRemovalBlock():
                    yield f"{path}.tool.name", block.tool.name, block.type == "tool_addition"
                case ToolResultBlock(content=list() as parts):
                    for k, part in enumerate(parts):
                        if isinstance(part, ToolReferenceBlock):
                            yield f"{path}.content[{k}].tool_name", part.tool_name, True


def _standing(turns: list[Turn]) -> Iterator[Turn]:
    """The turns less instructions that stood for one turn, and less changes of tools."""
    last_user = max((i for i, turn in enumerate(turns) if isinstance(turn, UserTurn)), default=-1)
    for i, turn in enumerate(turns):
        if isinstance(turn, SystemTurn):
            if turn.clear_at == "next_user_message" and i < last_user:
                continue
            if isinstance(turn.content, list):
                texts = [block for block in turn.content if isinstance(block, TextBlock)]
                turn = turn.model_copy(update={"content": texts})
            if not turn.content:
                continue
        if isinstance(turn, UserTurn) and isinstance(turn.content, list):
            turn = turn.model_copy(update={"content": [_told(block) for block in turn.content]})
        yield turn


def _told(block: UserBlock) -> UserBlock:
    """The block; an error of a tool says that it is one, since templates have no member for it."""
    if not isinstance(block, ToolResultBlock) or not block.is_error:
        return block
    said: Any = "Error"
    if isinstance(block.content, list):
        said = [_ERROR, *block.content]
    elif block.content:
        said = f"Error: {block.content}"
    return block.model_copy(update={"content": said})


def _without_old_thinking(body: CountTokensRequest, turns: list[Turn]) -> list[Turn]:
    edits = body.context_management.edits if body.context_management else ()
    left = min((edit.kept for edit in edits), default=len(turns))
    for i in reversed(range(len(turns))):
        turn = turns[i]
        if not isinstance(turn, AssistantTurn) or not isinstance(turn.content, list):
            continue
        spoken = [block for block in turn.content if not isinstance(block, ThinkingBlock)]
        if len(spoken) == len(turn.content):
            continue
        if left <= 0:
            turns[i] = turn.model_copy(update={"content": spoken})
        left -= 1
    return turns
