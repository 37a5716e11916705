"""A configuration file once it was found sound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llm_serve.config import Config


@dataclass(frozen=True, slots=True)
class ServeFile:
    """`schema` is the whole file, as Ray Serve takes it; empty where there is no file."""

    config: Config
    host: str
    port: int
    schema: dict[str, Any]
