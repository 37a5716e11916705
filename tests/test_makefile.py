"""`make` finds a Python that fits by whatever name it has, or says what is missing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAKE = shutil.which("make")
pytestmark = pytest.mark.skipif(MAKE is None, reason="there is no make here")
SHIM = "echo 'pyenv: python3.11: command not found' >&2; exit 127"
"""What pyenv puts there for a Python that is not the chosen one."""
OLD = "exit 1"
"""A Python that is too old says no to the check."""
BARE = f'case "$2" in *ensurepip*) exit 1;; *) exec {sys.executable} "$@";; esac'
"""Debian's, without the package that has venv."""
GOOD = f'exec {sys.executable} "$@"'

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs `make install` where no commands are but those given: name and what it does."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def run(*arguments: str, **commands: str) -> subprocess.CompletedProcess[str]:
        for name, does in commands.items():
            file = folder / name.replace("_", ".")
            file.write_text(f"#!/bin/sh\n{does}\n")
            file.chmod(0o755)
        return subprocess.run(
            [str(MAKE), "install", f"VENV={tmp_path / 'venv'}", *arguments],
            cwd=ROOT,
            env={"PATH": str(folder), "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.mark.parametrize(
    ("commands", "chosen"),
    [
        ({"python3_11": GOOD, "python3_12": GOOD, "python3": GOOD}, "python3.11"),
        ({"python3_11": SHIM, "python3_12": GOOD, "python3": OLD}, "python3.12"),
        ({"python3_11": SHIM, "python3_12": SHIM, "python3": GOOD}, "python3"),
        ({"python3": OLD, "python": GOOD}, "python"),
    ],
)
def test_the_first_name_that_works(run: Run, commands: dict[str, str], chosen: str) -> None:
    done = run("--dry-run", **commands)
    assert done.returncode == 0, done.stderr
    assert f"|| {chosen} -m venv " in done.stdout


def test_a_python_that_is_named_is_taken(run: Run) -> None:
    done = run("--dry-run", "PYTHON=mine", python3=GOOD, mine=GOOD)
    assert "|| mine -m venv " in done.stdout


@pytest.mark.parametrize(
    ("arguments", "commands", "said"),
    [
        ((), {}, "3.12, which is not: python3.11 python3.12 python3 python."),
        ((), {"python3_11": SHIM, "python3": OLD}, "make PYTHON=/path/to/python3.12"),
        (("PYTHON=mine",), {"mine": OLD, "python3": GOOD}, "3.11 or 3.12, which is not: mine."),
        (("PYTHON=gone",), {"python3": GOOD}, "3.11 or 3.12, which is not: gone."),
        ((), {"python3_11": SHIM, "python3": BARE}, "python3 lacks its module venv"),
    ],
)
def test_what_is_missing_is_said(
    run: Run, arguments: tuple[str, ...], commands: dict[str, str], said: str, tmp_path: Path
) -> None:
    done = run(*arguments, **commands)
    assert done.returncode == 2
    assert said in done.stderr
    assert "apt install" in done.stderr
    assert not (tmp_path / "venv").exists()
