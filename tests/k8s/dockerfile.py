"""A Dockerfile, taken apart: as much of its language as ours use."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from tests.k8s.rendered import ROOT

_COMMANDS = ("FROM", "ARG", "ENV", "RUN", "COPY", "WORKDIR", "USER", "CMD")


@dataclass(frozen=True)
class Stage:
    """From one FROM to the next; `steps` are its instructions, lines joined, comments left out."""

    image: str
    steps: tuple[tuple[str, str], ...]

    def of(self, command: str) -> list[str]:
        return [rest for name, rest in self.steps if name == command]


def stages(text: str) -> list[Stage]:
    """Raises ValueError for an instruction that is not one."""
    lines = [line for line in text.splitlines() if not re.match(r"\s*#", line)]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    found: list[tuple[str, list[tuple[str, str]]]] = []
    for line in filter(str.strip, joined.splitlines()):
        command, _, rest = line.partition(" ")
        if command not in _COMMANDS:
            raise ValueError(f"no instruction is called {command}")
        if command == "FROM":
            found.append((rest.split()[0], []))
        elif not found:
            raise ValueError(f"{command} before FROM")
        else:
            found[-1][1].append((command, " ".join(rest.split())))
    return [Stage(image, tuple(steps)) for image, steps in found]


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps a path of the repository away: the last pattern that fits it."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    verdict = False
    for line in (line for line in lines if line and not line.startswith("#")):
        pattern = line.removeprefix("!")
        parents = [Path(path), *(p for p in Path(path).parents if p.name)]
        anywhere = pattern.startswith("**/")
        if any(fnmatch(p.name if anywhere else str(p), pattern[3 * anywhere :]) for p in parents):
            verdict = not line.startswith("!")
    return verdict
