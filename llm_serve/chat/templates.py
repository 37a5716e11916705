"""What the text of a chat template says about a model."""

from __future__ import annotations

import re

_GENERATION = re.compile(r"\{%-?\s*(?:end)?generation\s*-?%\}")
"""A tag of transformers' own, which marks the assistant's tokens and renders nothing."""

_MARKS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("seed_oss", ("<seed:tool_call>",)),
    ("qwen3_coder", ("<function=", "<parameter=")),
    ("glm45", ("<arg_key>",)),
    ("longcat", ("<longcat_tool_call>",)),
    ("mistral", ("[TOOL_CALLS]",)),
    ("phi4_mini_json", ("functools",)),
    ("jamba", ("<tool_calls>",)),
    ("deepseek_v3", ("<｜tool▁sep｜>", "```json")),
    ("deepseek_v31", ("<｜tool▁sep｜>",)),
    ("lfm2", ("<|tool_call_start|>",)),
    ("granite", ("<|tool_call|>",)),
    ("hermes", ("<tool_call>",)),
    ("pythonic", ("[func_name1(",)),
    ("llama3_json", ('"parameters"', "<|python_tag|>")),
    ("llama3_json", ('{"name": function name, "parameters":',)),
)
"""Texts that only the templates of one format have all of, the more special first."""


def renders_tools(template: str) -> bool:
    """Whether `tools` is a variable of the template, and calls are shown again to the model."""
    from jinja2 import Environment, TemplateSyntaxError
    from jinja2.ext import loopcontrols
    from jinja2.meta import find_undeclared_variables

    try:
        parsed = Environment(extensions=[loopcontrols]).parse(_GENERATION.sub("", template))
    except TemplateSyntaxError:
        return False
    return "tools" in find_undeclared_variables(parsed) and "tool_calls" in template


def tool_parser_of(template: str) -> str | None:
    """The format of calls that the template shows; None for one that is not known here."""
    return next((name for name, marks in _MARKS if all(m in template for m in marks)), None)
