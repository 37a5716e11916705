"""How a server is, asked over HTTP as a client would ask. The command asks it all the time."""

from __future__ import annotations

from typing import Any

import httpx

from llm_serve.config import Config
from llm_serve.config.api_keys import read_keys

_TIMEOUT_S = 5.0

Health = dict[str, Any]
"""The object of `/healthz`."""


class Probe:
    """A server on this machine that listens on `host`:`port`."""

    def __init__(self, config: Config, host: str, port: int) -> None:
        self.url = f"http://{_reachable(host)}:{port}"
        self._config = config

    def health(self) -> Health | None:
        """`/healthz`, or None while no ingress of ours answers."""
        try:
            answer = self._get("/healthz")
            return answer.json() if answer.status_code == 200 else None
        except (httpx.HTTPError, ValueError):
            return None

    def why_default_failed(self) -> str | None:
        """The sentence, where the default model could not be loaded."""
        default = self._config.default_model.id
        for model in self._get("/v1/models").json()["data"]:
            if model["id"] == default and model["status"] == "failed":
                return f"{default} could not be loaded: {model['last_error']}"
        return None

    def _get(self, path: str) -> httpx.Response:
        keys = read_keys(self._config.server.api_key_file)
        headers = {"Authorization": f"Bearer {keys[0]}"} if keys else {}
        return httpx.get(self.url + path, headers=headers, timeout=_TIMEOUT_S, trust_env=False)


def _reachable(host: str) -> str:
    """The host part of a URL that reaches this address from this machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "*": "127.0.0.1"}.get(host, host)
    return f"[{host}]" if ":" in host else host
