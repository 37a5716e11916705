"""The seam between the routes and whatever runs the models."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

from llm_serve.api.job import Job
from llm_serve.status import ServerStatus


class Gateway(Protocol):
    """What the routes need. `generate` yields the encoded messages of `llm_serve.execution.run`,
    a large one in pieces.

    It raises ServeError, before its first message or later; closing it frees the request's place
    within a second. `status` is in memory and costs no call.
    """

    def status(self) -> ServerStatus: ...

    def generate(self, job: Job) -> AsyncGenerator[bytes, None]: ...
