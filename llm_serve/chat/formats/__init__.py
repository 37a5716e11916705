"""How models write calls of functions, one format a file."""

from __future__ import annotations

from llm_serve.chat.formats.bare_objects import BareObjects
from llm_serve.chat.formats.base import CallFormat, Functions
from llm_serve.chat.formats.listed_objects import ListedObjects, ListOr
from llm_serve.chat.formats.mistral import Mistral
from llm_serve.chat.formats.named_arguments import DEEPSEEK_V3, DEEPSEEK_V31
from llm_serve.chat.formats.pythonic import Pythonic, TaggedPythonic
from llm_serve.chat.formats.tagged_objects import TaggedObjects
from llm_serve.chat.formats.tagged_parameters import GLM45, QWEN3_CODER, SEED_OSS

PLAIN = "hermes"
"""The format of models that were taught none."""
TOOL_PARSERS: dict[str, CallFormat] = {
    "deepseek_v3": DEEPSEEK_V3,
    "deepseek_v31": DEEPSEEK_V31,
    "glm45": GLM45,
    "glm47": GLM45,
    "granite": ListedObjects(("<|tool_call|>", "<tool_call>")),
    "hermes": TaggedObjects(),
    "jamba": ListedObjects(("<tool_calls>",), "</tool_calls>"),
    "lfm2": TaggedPythonic("<|tool_call_start|>", "<|tool_call_end|>"),
    "llama3_json": BareObjects(),
    "llama4_json": BareObjects(),
    "llama4_pythonic": Pythonic(),
    "longcat": TaggedObjects("<longcat_tool_call>", "</longcat_tool_call>"),
    "mistral": Mistral(),
    "phi4_mini_json": ListedObjects(("functools",)),
    "pythonic": Pythonic(),
    "qwen3_coder": QWEN3_CODER,
    "qwen3_json": TaggedObjects(),
    "qwen3_xml": QWEN3_CODER,
    "seed_oss": SEED_OSS,
}
"""By vLLM's names for them."""

__all__ = ["PLAIN", "TOOL_PARSERS", "CallFormat", "Functions", "ListOr"]
