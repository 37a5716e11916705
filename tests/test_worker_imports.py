"""The worker that imports an engine before Ray gives it work: all in its main thread."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from llm_serve.host.worker_imports import DONE, FOLDER, ORDER

ROOT = Path(__file__).parents[1]
MODULE = "import threading\nwhere = threading.current_thread() is threading.main_thread()\n"
CODE = """
import os, sys, threading
import llm_serve.host.worker_imports
print(os.getpid(), threading.active_count(), getattr(sys.modules.get("engine"), "where", None))
"""


def _worker(folder: Path) -> list[str]:
    """A worker that starts: its pid, its threads, and whether its main thread has imported."""
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        env={**os.environ, FOLDER: str(folder), "PYTHONPATH": f"{ROOT}:{folder}"},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


def test_one_worker_takes_the_order_in_its_main_thread(tmp_path: Path) -> None:
    (tmp_path / "engine.py").write_text(MODULE)
    (tmp_path / ORDER).write_text("engine")
    pid, *first = _worker(tmp_path)
    assert first == ["1", "True"]
    assert (tmp_path / f"{pid}{DONE}").exists()
    assert _worker(tmp_path)[1:] == ["1", "None"], "the order is taken"


def test_an_engine_that_cannot_be_imported_leaves_the_worker_cold(tmp_path: Path) -> None:
    (tmp_path / "engine.py").write_text("raise OSError('no such library')")
    (tmp_path / ORDER).write_text("engine")
    assert _worker(tmp_path)[1:] == ["1", "None"]
    assert not list(tmp_path.glob(f"*{DONE}"))
