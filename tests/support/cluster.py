"""Ray in a child process: a server as `llm-serve` starts it, and more applications beside it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import httpx
import psutil

from deployments.schema import APPLICATION
from tests.support.ports import free_port, ingress_ports
from tests.support.waiting import until

_ROOT = Path(__file__).parents[2]


class Cluster:
    """The configured application is at `/`; `deploy` adds others under prefixes of their own."""

    child_module = "tests.support.ray_child"

    def __init__(self, config: dict[str, Any]) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = tempfile.NamedTemporaryFile(prefix="llm-serve-ray-", suffix=".log")  # noqa: SIM115
        self.child = subprocess.Popen(
            [sys.executable, "-m", self.child_module, str(self.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            cwd=_ROOT,
            env={**os.environ, **ingress_ports()},
        )
        try:
            self._send(config)
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Closes the child's stdin, upon which it takes the cluster down; then makes sure."""
        ours = []
        with suppress(psutil.NoSuchProcess):
            ours = psutil.Process(self.child.pid).children(recursive=True)
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        with suppress(BrokenPipeError):
            self.child.stdin.close()
        try:
            self.child.wait(60)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
        self.child.stdout.close()
        for process in psutil.wait_procs(ours, timeout=5)[1]:
            process.kill()
        self.log.close()

    def deploy(
        self, name: str, config: dict[str, Any], *, wait: bool = True, seconds: float = 120
    ) -> str:
        """The URL of a new application; with `wait`, once no model is loading any more."""
        self._send({"deploy": name, "prefix": f"/{name}", "config": config})
        url = f"{self.url}/{name}"
        states = ("ok", "degraded") if wait else ("ok", "degraded", "starting")
        until(lambda: _state(url) in states, f"{url} serves", seconds=seconds)
        return url

    def delete(self, name: str) -> None:
        self._send({"delete": name})

    def replicas(self, deployment: str) -> list[psutil.Process]:
        """The processes of a deployment of the application at `/`, and of this cluster only."""
        return self.processes(f"ray::ServeReplica:{APPLICATION}:{deployment}")

    def processes(self, title: str) -> list[psutil.Process]:
        """The processes of this cluster whose title begins so."""
        found = []
        for process in psutil.Process(self.child.pid).children(recursive=True):
            try:
                if process.cmdline() and process.cmdline()[0].startswith(title):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def _send(self, command: dict[str, Any]) -> dict[str, Any]:
        assert self.child.stdin is not None
        self.child.stdin.write(json.dumps(command) + "\n")
        self.child.stdin.flush()
        assert self.child.stdout is not None
        line = self.child.stdout.readline()
        answer: dict[str, Any] = (
            json.loads(line) if line else {"ok": False, "error": "the child died"}
        )
        if not answer["ok"]:
            log = Path(self.log.name).read_text()[-4000:]
            raise RuntimeError(f"{answer['error']}\n{log}")
        return answer


def _state(url: str) -> str:
    try:
        return str(httpx.get(f"{url}/healthz", timeout=5).json()["status"])
    except (httpx.HTTPError, ValueError, KeyError):
        return "away"
