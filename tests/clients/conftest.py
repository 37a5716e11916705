"""Everything is tried once, by the first test that asks; each test reads what one client saw."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clients.roster import Cell
from tests.clients.trial import Trial, trial


def pytest_itemcollected(item: pytest.Item) -> None:
    """All of this folder is `make clients`; its first test waits for the whole run."""
    item.add_marker(pytest.mark.clients)
    item.add_marker(pytest.mark.timeout(1800))


@pytest.fixture(scope="package")
def seen(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Trial]:
    """What was seen of the cells that were selected."""
    chosen = [getattr(item, "callspec", None) for item in request.session.items]
    cells = [spec.params["cell"] for spec in chosen if spec and "cell" in spec.params]
    wanted = [cell for cell in cells if isinstance(cell, Cell)]
    with trial(tmp_path_factory.mktemp("clients"), wanted) as trial_:
        yield trial_
