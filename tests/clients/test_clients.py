"""Real packages, each as its own documentation shows it, against a whole server."""

from __future__ import annotations

import os

import pytest

from tests.clients.checks import check, passed
from tests.clients.roster import Cell, cells
from tests.clients.table import MARKED, rows, shown, table
from tests.clients.trial import Trial
from tests.docs.readme import FILE


@pytest.mark.parametrize("cell", cells(), ids=str)
def test_a_client_gets_what_it_asks_for(seen: Trial, cell: Cell) -> None:
    if why := seen.skipped.get(cell.client):
        pytest.skip(why)
    check(cell, seen.outcomes[cell])


def test_the_table_of_the_readme_is_what_was_seen(seen: Trial) -> None:
    """UPDATE_REFERENCE=1 writes it anew."""
    tried = {cell.client for cell in cells() if cell in seen.outcomes}
    whole = {name for name in tried if all(c in seen.outcomes for c in cells() if c.client == name)}
    if not whole:
        pytest.skip("no client was tried with all that it can do")
    found = rows(lambda cell: cell in seen.outcomes and passed(cell, seen.outcomes[cell]))
    wanted = {name: line for name, line in found.items() if name in whole}
    if os.environ.get("UPDATE_REFERENCE"):
        text = table(shown() | wanted)
        FILE.write_text(MARKED.sub(lambda m: f"{m[1]}\n{text}\n{m[2]}", FILE.read_text()))
    told = shown()
    for name, line in wanted.items():
        assert told.get(name) == line, "run UPDATE_REFERENCE=1 make clients"
