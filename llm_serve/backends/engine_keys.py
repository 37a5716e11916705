"""Which keys may be set in an `engine` section whose keys are the engine's own."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Set

from llm_serve.errors import LoadFailed


def check_keys(
    keys: Iterable[str], known: Set[str], ours: Mapping[str, str], *, model_id: str, engine: str
) -> None:
    """Raises LoadFailed for a key that the engine does not know, or that is not the person's to
    set: `ours` has what to do instead."""
    for key in keys:
        if key in ours:
            raise LoadFailed(f"{model_id}: engine.{key} cannot be set here: {ours[key]}.")
        if key not in known:
            near = difflib.get_close_matches(key, known - ours.keys(), n=1)
            meant = f" Did you mean {near[0]}?" if near else ""
            raise LoadFailed(f"{model_id}: {engine} has no engine argument {key!r}.{meant}")
