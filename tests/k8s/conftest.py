"""Each overlay is rendered once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from tests.k8s.rendered import K8S, OVERLAYS, Rendered, render


@pytest.fixture(scope="package")
def rendered() -> Callable[[str], Rendered]:
    """The overlay of a name; copy it before you change it."""
    return cache(lambda name: Rendered(render(K8S / "overlays" / name)))


@pytest.fixture(params=OVERLAYS)
def overlay(request: pytest.FixtureRequest, rendered: Callable[[str], Rendered]) -> Rendered:
    return rendered(request.param)
