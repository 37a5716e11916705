"""How models write calls of functions, one format a file."""

from __future__ import annotations

from llm_serve.chat.formats.base import CallFormat, Functions
from llm_serve.chat.formats.tagged_objects import TaggedObjects

PLAIN = "hermes"
"""The format of models that were taught none."""
TOOL_PARSERS: dict[str, CallFormat] = {
    "hermes": TaggedObjects(),
}
"""By vLLM's names for them."""

__all__ = ["PLAIN", "TOOL_PARSERS", "CallFormat", "Functions"]
