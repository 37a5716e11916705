"""Ray's token: who may talk to the dashboard and to the cluster.

Ray 2.60 asks for one by default and makes it where there is none, but readable for everyone on the
machine. We make it first, for its owner alone, at the same place, so that `ray` and `serve`
find it. A mode or a token that the user chose stays as it is.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path


def ensure_token(environ: Mapping[str, str]) -> str | None:
    """Makes a token if Ray would. Says where it is, or None if the user turned it off."""
    if environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        return None
    if environ.get("RAY_AUTH_TOKEN"):
        return "$RAY_AUTH_TOKEN"
    if chosen := environ.get("RAY_AUTH_TOKEN_PATH"):
        return chosen
    path = Path.home() / ".ray" / "auth_token"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return str(path)
    with os.fdopen(handle, "w") as file:
        file.write(secrets.token_hex(32))
    return str(path)
