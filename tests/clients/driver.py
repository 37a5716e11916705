"""Clients as processes that are asked for one feature after the other."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cli.processes import ROOT
from tests.clients.roster import Client

FOLDER = Path(__file__).parent
PYTHON = ROOT / os.environ.get("CLIENTS", ".clients") / "bin" / "python"
NODE = shutil.which("node")
MODULES = FOLDER / "node_modules"
LONGEST_S = 420.0
"""For one feature; the first on vLLM waits until it is loaded."""


@dataclass(frozen=True)
class Outcome:
    """What a feature gave: the program's answer, or why there is none."""

    answer: dict[str, Any] | None = None
    error: str | None = None


def missing(client: Client) -> str | None:
    """Why it cannot run here, or None."""
    if client.npm is None:
        assert PYTHON.exists(), f"{PYTHON} is not there; run make clients"
        return None
    if NODE is None:
        return "node is not installed"
    assert MODULES.exists(), f"{MODULES} is not there; run make clients"
    return None


def environment(home: Path, url: str) -> dict[str, str]:
    """Nothing of the person who runs the tests, and no way out of this machine."""
    nowhere = "http://127.0.0.1:9"
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "TMPDIR": str(home),
        "LLM_SERVE_URL": url,
        "LLM_USER_PATH": str(home),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it is fetched when litellm is imported
        "DO_NOT_TRACK": "1",
        **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), nowhere),
        **dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1"),
    }


class Driven:
    """A running program of `programs/`, with a home of its own."""

    def __init__(self, client: Client, home: Path, url: str) -> None:
        home.mkdir()
        self.client = client
        self.log = home / "log"
        assert client.program
        runtime = NODE if client.npm else PYTHON
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [str(runtime), str(FOLDER / "programs" / client.program)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment(home, url),
                cwd=home,
                text=True,
            )

    def do(self, feature: str, model: str, other: str = "") -> Outcome:
        """Waits for the answer; a program that gives none in time is ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        asked = json.dumps({"feature": feature, "model": model, "other": other})
        timer = threading.Timer(LONGEST_S, self._process.kill)
        timer.start()
        try:
            self._process.stdin.write(asked + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            timer.cancel()
        if not line:
            return Outcome(error=f"the program ended: {self.log.read_text()[-2000:]}")
        return Outcome(**json.loads(line))

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.close()
            self._process.wait(10)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait(10)
        self._process.stdout.close()
