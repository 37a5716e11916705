"""What the text of a chat template says about a model."""

from __future__ import annotations

import re

_GENERATION = re.compile(r"\{%-?\s*(?:end)?generation\s*-?%\}")
"""A tag of transformers' own, which marks the assistant's tokens and renders nothing."""

_MARKS: tuple[tuple[str, str], ...] = (
    ("<function=", "qwen3_coder"),
    ("<tool_call>", "hermes"),
)
"""A text that only the templates of one format have, the more special first."""


def renders_tools(template: str) -> bool:
    """Whether `tools` is a variable of the template."""
    from jinja2 import Environment, TemplateSyntaxError
    from jinja2.ext import loopcontrols
    from jinja2.meta import find_undeclared_variables

    try:
        parsed = Environment(extensions=[loopcontrols]).parse(_GENERATION.sub("", template))
    except TemplateSyntaxError:
        return False
    return "tools" in find_undeclared_variables(parsed)


def tool_parser_of(template: str) -> str | None:
    """The format of calls that the template shows; None for one that is not known here."""
    return next((name for mark, name in _MARKS if mark in template), None)
