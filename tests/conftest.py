"""How the tests are ordered, and which of them stay together where two processes share them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

_ONE_SERVER = ("backends", "docs", "serving", "switching", "tensorrt_llm", "vllm")
"""Folders whose tests share a server, or a model that takes long to load."""
_SERVER_OF_ITS_OWN = (
    "switching/test_nodes.py",
    "switching/test_real.py",
    "vllm/test_parallel.py",
    "vllm/test_switching.py",
)
_FREE = ("cli",)
"""Folders whose tests start what they need, each for itself."""
_LONGEST = ("serving", "switching", "cli")
"""They begin, so that two processes end together."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """For `tests/chaos`, which a plain `pytest` leaves out; see the target `faults`."""
    parser.addoption("--minutes", type=float, default=2.0, help="how long the chaos lasts")
    parser.addoption("--seed", type=int, default=None, help="of the chaos; else it is drawn")


def _together(nodeid: str) -> str:
    """What shares a server runs in one process; two tests may run in two where this differs."""
    test = nodeid.partition("[")[0].removeprefix("tests/")
    file = test.partition("::")[0]
    folder = file.partition("/")[0]
    if folder in _ONE_SERVER and file not in _SERVER_OF_ITS_OWN:
        return folder
    return nodeid if folder in _FREE else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """For `make test`, whose two processes take the next of these groups as soon as they can."""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _together(nodeid)

    return Groups(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Packages stay together, in the order in which chance put them, so that their servers can go
    with them: an idle Ray takes a tenth of a core from all that comes later."""
    first: dict[Path, int] = {}
    for item in items:
        first.setdefault(item.path.parent, len(first))

    def place(item: pytest.Item) -> tuple[int, int]:
        folder = item.path.parent
        known = folder.name in _LONGEST
        return (_LONGEST.index(folder.name) if known else len(_LONGEST), first[folder])

    items.sort(key=place)
