"""Reasoning in the signature of an Anthropic thinking block, for clients that want none to show.

A template may want the reasoning of former turns. The server keeps nothing, so where the block must
be without text its signature has it, and the client sends that back as it came.
"""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode

SHOWN = "llm-serve"
"""The signature of a block that has the text itself; clients leave out a block without one."""
_PREFIX = "llm-serve:"


def signature_of(reasoning: str) -> str:
    return _PREFIX + urlsafe_b64encode(reasoning.encode()).decode()


def reasoning_of(signature: str) -> str:
    """What `signature_of` was given; nothing for a signature of another server."""
    if not signature.startswith(_PREFIX):
        return ""
    try:
        return urlsafe_b64decode(signature.removeprefix(_PREFIX)).decode()
    except (binascii.Error, ValueError):
        return ""
