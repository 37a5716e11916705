"""k8s/README.md, taken apart."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.k8s.rendered import K8S

FILE = K8S / "README.md"
CURL = "curl "
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Command:
    """One command, its lines joined. `line` is where its block begins."""

    text: str
    line: int

    def __str__(self) -> str:
        return f"{self.line}: {' '.join(self.text.split()[:4])}"


def commands() -> list[Command]:
    """Of all shell blocks; there are no others."""
    text = FILE.read_text()
    blocks = list(_BLOCK.finditer(text))
    assert text.count("```") == 2 * len(blocks), "a block has no language, or no end"
    assert {block[1] for block in blocks} == {"bash"}
    return [
        Command(line.strip(), text.count("\n", 0, block.start()) + 1)
        for block in blocks
        for line in block[2].replace("\\\n", " ").splitlines()
    ]
