"""How long the chaos lasts, and which."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

_REST_S = 900
"""Start, settling and end of a run, with room."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            minutes = config.getoption("--minutes")
            item.add_marker(pytest.mark.timeout(minutes * 60 + _REST_S))


@pytest.fixture
def minutes(request: pytest.FixtureRequest) -> float:
    return float(request.config.getoption("--minutes"))


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    chosen: int | None = request.config.getoption("--seed")
    # pytest-randomly seeds `random` itself with the same number for each test.
    return random.SystemRandom().randrange(10**6) if chosen is None else chosen
