"""A running server over its HTTP API, as `llm_serve.cli.verbs` sees it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from llm_serve.config import DEFAULT_HOST, DEFAULT_PORT

DEFAULT_URL = f"http://{DEFAULT_HOST}:{DEFAULT_PORT}"
_TIMEOUT_S = 30.0
"""Of calls that answer from memory; above what a busy server takes for them."""

ModelEntry = dict[str, Any]
"""An entry of `GET /v1/models`."""


class RemoteError(Exception):
    """What was asked for was not done; the message is a sentence with the remedy."""


class Unreachable(RemoteError):
    """No llm-serve answers there."""


class Refused(RemoteError):
    """The server said no. `code` is that of its error object."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class Remote:
    """Calls raise Unreachable or Refused."""

    def __init__(self, url: str, key: str | None = None) -> None:
        self.url = url.rstrip("/").removesuffix("/v1")
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        try:
            self._client = httpx.Client(
                base_url=self.url, headers=headers, timeout=_TIMEOUT_S, trust_env=False
            )
        except httpx.InvalidURL as error:
            raise Unreachable(f"{url} is no URL: {error}.") from None

    def close(self) -> None:
        self._client.close()

    def health(self) -> dict[str, Any]:
        return self._call("GET", "/healthz")[1]

    def models(self) -> list[ModelEntry]:
        listed: list[ModelEntry] = self._call("GET", "/v1/models")[1]["data"]
        return listed

    def load(self, model_id: str) -> dict[str, Any] | None:
        """Asks for the model: the `model.load` object, or None where it is ready already."""
        status, body = self._call("POST", f"/v1/models/{model_id}/load")
        return body if status == 202 else None

    def unload(self, model_id: str) -> ModelEntry:
        """Asks the model to leave: how it stands now."""
        return self._call("POST", f"/v1/models/{model_id}/unload")[1]

    @contextmanager
    def changes(self, every_s: float) -> Iterator[Iterator[list[ModelEntry]]]:
        """All models now, at every event of the server, and every `every_s` seconds."""
        ended, news = threading.Event(), threading.Event()
        listener = threading.Thread(target=self._listen, args=(news, ended), daemon=True)
        listener.start()

        def models() -> Iterator[list[ModelEntry]]:
            while True:
                news.clear()
                yield self.models()
                news.wait(every_s)

        try:
            yield models()
        finally:
            ended.set()

    def _listen(self, news: threading.Event, ended: threading.Event) -> None:
        """Sets `news` at each event. A stream that breaks costs promptness, not correctness."""
        while not ended.is_set():
            try:
                with self._client.stream("GET", "/v1/events", timeout=None) as response:
                    for line in response.iter_lines():
                        if ended.is_set():
                            return
                        if line.startswith("data: "):
                            news.set()
            except (httpx.HTTPError, RuntimeError):  # RuntimeError: the client was closed
                pass
            time.sleep(1)

    def _call(self, method: str, path: str) -> tuple[int, dict[str, Any]]:
        try:
            response = self._client.request(method, path)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            raise Unreachable(
                f"No server answers at {self.url}. Start one with `llm-serve`, or say where it is "
                "with --url."
            ) from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unreachable(
                f"{self.url} did not answer ({type(error).__name__}). Try again, or correct --url."
            ) from None
        try:
            body = response.json()
            if response.is_success:
                return response.status_code, dict(body)
            message, code = body["error"]["message"], body["error"]["code"]
        except (ValueError, TypeError, KeyError):
            raise Unreachable(
                f"What answers at {self.url} is no llm-serve; say where it is with --url."
            ) from None
        if response.status_code in (401, 403):
            message += " --key-file names a file that holds one."
        raise Refused(message, str(code))
