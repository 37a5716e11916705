"""The table of the README: client, feature, backend."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from tests.clients.driver import FOLDER
from tests.clients.roster import BACKENDS, CLIENTS, COLUMNS, Cell, Client, cells, column_of
from tests.docs.readme import FILE

MARKED = re.compile(r"(<!-- clients: [^>]*-->\n).*?(<!-- /clients -->)", re.DOTALL)
_PINNED = re.compile(r"^([\w.-]+)==(\S+)$", re.MULTILINE)


def rows(passed: Callable[[Cell], bool]) -> dict[str, str]:
    """A line for each client. A letter says that all of that column passed on that backend."""
    return {client.name: _row(client, passed) for client in CLIENTS}


def table(lines: dict[str, str]) -> str:
    head = ["client", *COLUMNS]
    return "\n".join(
        ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *lines.values(), ""]
    )


def shown() -> dict[str, str]:
    """The lines of the README, by client."""
    match = MARKED.search(FILE.read_text())
    assert match, "README.md has no table of clients"
    lines = [line for line in match[0].splitlines() if line.startswith("| `")]
    return {line.split("`")[1]: line for line in lines}


def _row(client: Client, passed: Callable[[Cell], bool]) -> str:
    texts = [f"`{client.name}` {_version(client)}"]
    for column in COLUMNS:
        letters = []
        for backend, letter in BACKENDS.items():
            tried = [
                cell
                for cell in cells()
                if (cell.client, cell.backend) == (client.name, backend)
                and column_of(cell.feature) == column
            ]
            if tried and all(map(passed, tried)):
                letters.append(letter)
        texts.append(" ".join(letters))
    return "| " + " | ".join(texts) + " |"


def _version(client: Client) -> str:
    if client.npm is None:
        return dict(_PINNED.findall((FOLDER / "requirements.txt").read_text()))[client.name]
    versions = json.loads((FOLDER / "package.json").read_text())["dependencies"]
    version: str = versions[client.npm]
    return version
