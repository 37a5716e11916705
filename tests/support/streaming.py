"""Reading a stream while it comes, and leaving in the middle of it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from tests.support.client import CHAT, Api, user


class Live:
    """An open stream; each piece of text with the time at which it arrived."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.arrivals: list[float] = []
        self.texts: list[str] = []
        self.error: dict[str, Any] | None = None
        self.done = False
        self.comments: list[str] = []
        self._lines = response.iter_lines()

    def read(self, pieces: int | None = None) -> None:
        """Reads so many pieces of text, or to the end."""
        wanted = None if pieces is None else len(self.texts) + pieces
        for line in self._lines:
            if not line:
                continue
            if line.startswith(": "):
                self.comments.append(line.removeprefix(": "))
                continue
            data = line.removeprefix("data: ")
            if data == "[DONE]":
                self.done = True
                continue
            chunk = json.loads(data)
            if "error" in chunk:
                self.error = chunk["error"]
                continue
            self.arrivals.append(time.monotonic())
            self.texts.append(chunk["choices"][0]["delta"].get("content", ""))
            if len(self.texts) == wanted:
                return

    @property
    def text(self) -> str:
        return "".join(self.texts)


@contextmanager
def live(
    api: Api, model: str, text: str, _headers: dict[str, str] | None = None, **fields: Any
) -> Iterator[Live]:
    """A stream on a connection of its own, which closes with the block, read or not."""
    body = {"model": model, "messages": user(text), "stream": True, **fields}
    with (
        httpx.Client(base_url=api.client.base_url, headers=api.client.headers, timeout=60) as own,
        own.stream("POST", CHAT, json=body, headers=_headers) as response,
    ):
        yield Live(response)
