"""What makes bytes of the deltas of one request, in the shape that its route answers in."""

from __future__ import annotations

from typing import Protocol

from llm_serve.errors import ServeError
from llm_serve.sampling import Delta


class Renderer(Protocol):
    """A request that streams takes `begin`, then `chunk` for each delta, then `end` or `failed`;
    one that does not takes `add` for each delta, then `body`. `index` counts the answers."""

    def begin(self) -> bytes:
        """The frames before the first delta; they are sent with it."""
        ...

    def chunk(self, index: int, delta: Delta) -> bytes:
        """The frames of one delta; empty where it changes nothing that is shown."""
        ...

    def end(self) -> bytes:
        """The last frames of a stream whose answers have all ended."""
        ...

    def failed(self, error: ServeError) -> bytes:
        """The last frame of a stream that failed midway."""
        ...

    def add(self, index: int, delta: Delta) -> None:
        """Keeps a delta for `body`."""
        ...

    def body(self) -> bytes:
        """The whole answer as JSON."""
        ...
