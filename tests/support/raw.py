"""Requests on a bare socket: whose answer nobody awaits, or written as no client would."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.client import CHAT, Api


@contextmanager
def connection(api: Api) -> Iterator[socket.socket]:
    """A connection to the server, which closes with the block."""
    url = api.client.base_url
    with socket.create_connection((url.host, url.port or 80), timeout=20) as sock:
        yield sock


@contextmanager
def sent(api: Api, body: dict[str, Any], prefer: str | None = None) -> Iterator[socket.socket]:
    """A chat request whose answer nobody reads; the client leaves with the block."""
    with connection(api) as sock:
        content = json.dumps(body).encode()
        path = api.client.base_url.path.rstrip("/") + CHAT
        wish = "" if prefer is None else f"Prefer: {prefer}\r\n"
        sock.sendall(
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{wish}"
            f"Content-Length: {len(content)}\r\n\r\n".encode()
        )
        sock.sendall(content)
        yield sock


def exchange(api: Api, request: bytes) -> bytes:
    """Writes these bytes and reads until the server closes."""
    received = b""
    with connection(api) as sock:
        sock.sendall(request)
        while part := sock.recv(65536):
            received += part
    return received
