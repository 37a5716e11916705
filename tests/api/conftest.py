"""One app for all tests of the wire that need no setting of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.client import Api
from tests.support.inprocess import echo, serving


@pytest.fixture(scope="session")
def api() -> Iterator[Api]:
    """Two plain echo models; requests that name none get `echo/a`."""
    with serving(echo("echo/a"), echo("echo/b")) as api:
        yield api
