"""The map of the house: each room, what it is for, and the rooms below it that it may use."""

from __future__ import annotations

import ast
import re
import statistics
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOMS: dict[str, set[str]] = {
    "llm_serve.errors": set(),
    "llm_serve.progress": set(),
    "llm_serve.sampling": set(),
    "llm_serve.status": {"llm_serve.progress"},
    "llm_serve.residency": {"llm_serve.progress", "llm_serve.status"},
    "llm_serve.wire": {"llm_serve.errors"},
    "llm_serve.host": set(),
    "llm_serve.config": set(),
    "llm_serve.models": {
        "llm_serve.config",
        "llm_serve.errors",
        "llm_serve.progress",
        "llm_serve.residency",
    },
    "llm_serve.chat": {"llm_serve.errors", "llm_serve.sampling"},
    "llm_serve.backends": {
        "llm_serve.chat",
        "llm_serve.config",
        "llm_serve.errors",
        "llm_serve.models",
        "llm_serve.progress",
        "llm_serve.sampling",
        "llm_serve.wire",
    },
    "llm_serve.generation": {
        "llm_serve.backends",
        "llm_serve.chat",
        "llm_serve.errors",
        "llm_serve.sampling",
        "llm_serve.wire",
    },
    "llm_serve.api": {
        "llm_serve.backends",
        "llm_serve.config",
        "llm_serve.errors",
        "llm_serve.generation",
        "llm_serve.sampling",
        "llm_serve.status",
        "llm_serve.wire",
    },
    "deployments.schema": {"llm_serve.config"},
    "deployments.ray_patches": {"llm_serve.api", "llm_serve.errors"},
    "deployments.cluster": {"llm_serve.config", "llm_serve.residency"},
    "deployments.door": {"llm_serve.errors", "llm_serve.host", "llm_serve.wire"},
    "deployments.app": {
        "deployments.cluster",
        "deployments.ray_patches",
        "llm_serve.api",
        "llm_serve.backends",
        "llm_serve.config",
        "llm_serve.errors",
        "llm_serve.generation",
        "llm_serve.models",
        "llm_serve.progress",
        "llm_serve.residency",
        "llm_serve.status",
    },
    "deployments.autoscaling": {"deployments.app", "deployments.ray_patches"},
    "deployments.graph": {"deployments.app", "deployments.cluster", "llm_serve.config"},
    "deployments.machine": {
        "deployments.app",
        "deployments.door",
        "deployments.ray_patches",
        "deployments.schema",
        "llm_serve.cli",
        "llm_serve.config",
        "llm_serve.errors",
        "llm_serve.host",
        "llm_serve.models",
        "llm_serve.progress",
    },
    "llm_serve.cli": {
        "deployments.machine",
        "deployments.schema",
        "llm_serve.backends",
        "llm_serve.config",
        "llm_serve.errors",
        "llm_serve.models",
        "llm_serve.progress",
    },
}
"""The only arrows up are between `llm_serve.cli` and `deployments.machine`: the command starts the
server, which writes to the command's terminal."""
MOST_FILES = 12
MEDIAN_LINES = 130


def _room(module: str) -> str:
    return ".".join(module.split(".")[:2])


def _files() -> list[Path]:
    return [file for top in ("llm_serve", "deployments") for file in (ROOT / top).rglob("*.py")]


def _imports(file: Path) -> Iterator[str]:
    """The rooms that a file imports from, anywhere in it."""
    for node in ast.walk(ast.parse(file.read_text())):
        modules: list[str] = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from llm_serve import errors` names the room in what it imports.
            whole = node.module in ("llm_serve", "deployments")
            modules = [f"{node.module}.{a.name}" if whole else node.module for a in node.names]
        yield from (_room(m) for m in modules if m.startswith(("llm_serve.", "deployments.")))


def test_imports_point_downward_only() -> None:
    wrong = []
    for file in _files():
        module = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        room = _room(module)
        if module in ("llm_serve", "deployments"):
            continue
        assert room in ROOMS, f"{room} is on no map: add it, with the rooms that it may use"
        used = set(_imports(file)) - {room, "llm_serve.__version__"}
        wrong += [f"{module} imports {other}" for other in sorted(used - ROOMS[room])]
    assert not wrong, "\n".join(wrong)


def test_the_map_shows_what_there_is() -> None:
    """No room that is gone, no arrow that nobody follows any more, and no circle but the one."""
    used: dict[str, set[str]] = {room: set() for room in ROOMS}
    for file in _files():
        module = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if module not in ("llm_serve", "deployments"):
            used[_room(module)] |= set(_imports(file)) - {_room(module)}
    for room, below in ROOMS.items():
        assert (ROOT / room.replace(".", "/")).exists() or (
            ROOT / f"{room.replace('.', '/')}.py"
        ).exists(), f"there is no {room}"
        assert below <= used[room], f"{room} no longer uses {sorted(below - used[room])}"
    order = list(ROOMS)
    up = {
        (room, other)
        for room, below in ROOMS.items()
        for other in below
        if order.index(other) > order.index(room)
    }
    assert up == {("deployments.machine", "llm_serve.cli")}


def test_folders_and_files_can_be_taken_in_at_a_glance() -> None:
    files = _files()
    for folder in {file.parent for file in files}:
        count = len(list(folder.glob("*.py")))
        assert count <= MOST_FILES, f"{folder.relative_to(ROOT)} has {count} files"
    assert statistics.median(len(f.read_text().splitlines()) for f in files) < MEDIAN_LINES


def test_the_readme_names_every_room() -> None:
    readme = (ROOT / "README.md").read_text()
    for room in ROOMS:
        folder = room.replace(".", "/")
        is_folder = (ROOT / folder).is_dir()
        name = f"{folder}/" if is_folder else f"{room.rpartition('.')[2]}.py"
        assert f"`{name}`" in readme or f"{name}`" in readme, (
            f"README.md does not say what {name} is"
        )
    for path in re.findall(r"^\| `((?:llm_serve|deployments)/[^`]*)`", readme, re.MULTILINE):
        assert (ROOT / path).exists(), f"README.md names {path}, which is gone"


def test_the_design_note_names_files_that_there_are() -> None:
    folder = ROOT / "llm_serve" / "residency"
    text = (folder / "DESIGN.md").read_text()
    places = (folder, ROOT, ROOT / "deployments", ROOT / "llm_serve")
    for path in re.findall(r"`([\w/]+\.py)`", text):
        assert any((place / path).exists() for place in places), f"DESIGN.md names {path}"
