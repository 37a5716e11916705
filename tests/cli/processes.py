"""Real `llm-serve` processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import psutil

from tests.support.ports import ingress_ports

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-c", "from llm_serve.cli.main import main; main()"]

Run = Callable[..., subprocess.CompletedProcess[str]]


def environment(home: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "LLM_SERVE_"))}
    own = {"HOME": str(home), "PYTHONPATH": str(ROOT), "COLUMNS": "100"}
    return {**kept, **own, **ingress_ports()}


class Server:
    """A running `llm-serve`; its output line by line, and every process that it ever had."""

    def __init__(self, home: Path, *arguments: str, **variables: str) -> None:
        self.process = psutil.Popen(
            [*COMMAND, *arguments],
            cwd=home,
            env={**environment(home), **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self.tree: set[psutil.Process] = set()
        self._grown = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def until(self, text: str, timeout_s: float = 90) -> str:
        """Waits for a line with this text and returns it."""

        def found() -> str | None:
            return next((line for line in self.lines if text in line), None)

        with self._grown:
            self._grown.wait_for(lambda: found() or not self._reader.is_alive(), timeout_s)
        line = found()
        assert line is not None, f"no {text!r} in:\n{self.output}"
        self.note()
        return line

    def note(self) -> set[psutil.Process]:
        """Remembers the processes of now."""
        if self.process.is_running():
            self.tree |= {self.process, *self.process.children(recursive=True)}
        return self.tree

    def send(self, number: signal.Signals) -> None:
        self.note()
        self.process.send_signal(number)

    def wait(self, timeout_s: float = 25) -> int:
        """The exit code; by default it is waited for longer than an end may take, which is 20 s."""
        code = self.process.wait(timeout_s)
        self._reader.join(5)
        return code

    def left(self, timeout_s: float = 15) -> list[psutil.Process]:
        """Processes of this server that still run after so long."""
        return psutil.wait_procs(self.tree - {self.process}, timeout=timeout_s)[1]

    def _read(self) -> None:
        for line in self.process.stdout:
            with self._grown:
                self.lines.append(line.rstrip("\n"))
                self._grown.notify_all()
        with self._grown:
            self._grown.notify_all()
