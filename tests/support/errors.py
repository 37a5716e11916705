"""The error classes, found by walking the hierarchy."""

from __future__ import annotations

from llm_serve.errors import ServeError


def every_error(root: type[ServeError] = ServeError) -> list[type[ServeError]]:
    """The root's descendants, depth first, in the order of their definition."""
    found = []
    for child in root.__subclasses__():
        found += [child, *every_error(child)]
    return found
