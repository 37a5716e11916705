"""Reasoning in the signature of an Anthropic thinking block, for clients that want none to show.

A template may want the reasoning of former turns. The server keeps nothing, so where the block must
be without text its signature has it, and the client sends that back as it came.
"""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64

SHOWN = "llm-serve"
"""The signature of a block that has the text itself; clients leave out a block without one."""
_PREFIX = "llm-serve:"


def signature_of(reasoning: str) -> str:
    return _PREFIX + b2a_base64(reasoning.encode(), newline=False).decode()


def reasoning_of(signature: str) -> str:
    """What `signature_of` was given; nothing for a signature of another server."""
    if not signature.startswith(_PREFIX):
        return ""
    try:
        return a2b_base64(signature.removeprefix(_PREFIX)).decode()
    except ValueError:  # no ASCII, no base64, no UTF-8
        return ""
