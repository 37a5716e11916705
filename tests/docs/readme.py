"""README.md, taken apart."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tests.cli.processes import ROOT

FILE = ROOT / "README.md"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One example. `line` is where it begins."""

    language: str
    text: str
    line: int

    def __str__(self) -> str:
        return f"{self.language}-{self.line}"

    def commands(self) -> Iterator[str]:
        """Of a shell block: each command, its lines joined."""
        text = self.text.replace("\\\n", " ")
        command = ""
        for line in text.splitlines():
            command += line if not command else f"\n{line}"
            if command.count("'") % 2 == 0:
                yield command
                command = ""
        assert not command, f"README.md:{self.line}: a quote is open"


def blocks(*languages: str) -> list[Block]:
    text = FILE.read_text()
    found = [Block(m[1], m[2], text.count("\n", 0, m.start()) + 1) for m in _BLOCK.finditer(text)]
    assert text.count("```") == 2 * len(found), "a block has no language, or no end"
    return [block for block in found if block.language in languages]
