"""One app for all tests of the Messages routes, over echo models that answer as they are told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.client import Api
from tests.support.inprocess import echo, serving

CALL = '<tool_call>\n{"name": "Bash", "arguments": {"command": "ls", "n": [1]}}\n</tool_call>'
BASH: dict[str, Any] = {
    "name": "Bash",
    "description": "Runs a command.",
    "input_schema": {
        "type": "object",
        "properties": {"command": {"type": "string"}, "n": {"type": "array"}},
        "required": ["command"],
    },
}


@pytest.fixture(scope="session")
def api() -> Iterator[Api]:
    """`plain` echoes; `caller` calls Bash, then ends; `thinker` reasons first."""
    told = {"tool_call_parser": "hermes", "reasoning_parser": "qwen3"}
    with serving(
        echo("plain"),
        echo("caller", answers=[f"Let me see.\n{CALL}", "All done."], **told),
        echo("thinker", answers=["<think>\nLet me think.\n</think>\n\nSo it is."], **told),
    ) as api:
        yield api
