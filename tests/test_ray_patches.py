"""What we use of Ray beyond its documented interface is there, and is missed where it is not."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import ray

from deployments.ray_patches.check import RELIED_ON, WRITTEN_FOR, RayChanged, check

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def test_the_installed_ray_has_it_all() -> None:
    check()
    assert ray.__version__.startswith(f"{WRITTEN_FOR}.")


@pytest.mark.parametrize("name", [one.name for one in RELIED_ON])
def test_what_is_missing_is_said_with_the_file(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (one,) = [one for one in RELIED_ON if one.name == name]
    monkeypatch.delattr(f"{one.module}.{name}")
    with pytest.raises(RayChanged, match=f"{name}.*{one.used_by}"):
        check()


def test_private_modules_of_ray_are_used_in_this_room_only() -> None:
    found = set()
    for file in (ROOT / "deployments").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            module = node.module if isinstance(node, ast.ImportFrom) else None
            if module and module.startswith("ray.") and ("._" in module or ".core." in module):
                found.add(file.relative_to(ROOT / "deployments").parts[0])
    assert found == {"ray_patches"}
