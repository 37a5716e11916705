"""A whole `llm-serve`, as a person starts it, that tests may hurt.

It has a home and a temporary folder of its own, so that what it leaves can be told from what others
do. What it is asked for over HTTP goes through its door; `redeploy` does what `serve deploy` does.
"""

from __future__ import annotations

import secrets
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml

from bench.family import DASHBOARD, INGRESS, Family
from deployments.schema import deploy_schema
from llm_serve.config import DEFAULT_HOST, Config
from llm_serve.models import cache_root
from tests.cli.processes import Server
from tests.support.ports import free_port

_DEPLOY = "/api/serve/applications/"
START_S = 240.0


class Whole:
    """A running server. `start` waits until it greets; `stop` is SIGTERM."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.home = Path(tempfile.mkdtemp(prefix="llm-serve-home-"))
        self.temporary = _short_folder()
        file = self.home / "serve.yaml"
        file.write_text(yaml.safe_dump(self._schema(config)))
        self.server = Server(
            self.home,
            "--config",
            str(file),
            "--port",
            str(self.port),
            TMPDIR=str(self.temporary),
            LLM_SERVE_CACHE=str(cache_root()),
        )
        self.family = Family(self.server.process.pid)

    def _schema(self, config: dict[str, Any]) -> dict[str, Any]:
        return deploy_schema(Config.model_validate(config), DEFAULT_HOST, self.port)

    def redeploy(self, config: dict[str, Any]) -> str | None:
        """A changed configuration, through Ray's own interface; None once it is accepted, else why
        not."""
        token = self.home / ".ray" / "auth_token"
        headers = {"authorization": f"Bearer {token.read_text()}"} if token.exists() else {}
        why = "there is no dashboard"
        for process in self.family.of(DASHBOARD):
            for port in ports(process):
                try:
                    answer = httpx.put(
                        f"http://127.0.0.1:{port}{_DEPLOY}",
                        json=self._schema(config),
                        headers=headers,
                        timeout=30,
                        trust_env=False,
                    )
                except httpx.HTTPError as error:
                    why = f"{type(error).__name__}: {error}"
                    continue
                if answer.status_code == 200:
                    return None
                why = f"{answer.status_code} {answer.text[:300]}"
        return why

    def every_ingress(self) -> list[dict[str, Any]]:
        """`/healthz` of each ingress, asked past the door: the view of no other."""
        found = []
        for process in self.family.of(INGRESS):
            for port in ports(process):
                with suppress(httpx.HTTPError, ValueError, KeyError, TypeError):
                    url = f"http://127.0.0.1:{port}/healthz"
                    view = httpx.get(url, timeout=5, trust_env=False).json()
                    if "queue_depth" in view:
                        found.append(view)
        return found

    def own_folders(self) -> list[Path]:
        """Where the server keeps its sockets and temporary files."""
        return sorted(self.temporary.glob("llm-*"))

    def files(self) -> set[str]:
        """All in them, sockets too, by names that do not change from one Ray to the next."""
        return {
            str(path.relative_to(folder))
            for folder in self.own_folders()
            for path in folder.rglob("*")
        }

    def keep_logs(self, folder: Path) -> None:
        """Copies the logs of every Ray that this server had."""
        for number, logs in enumerate(sorted(self.temporary.glob("ray/session_2*/logs"))):
            shutil.copytree(logs, folder / str(number), ignore_dangling_symlinks=True)

    def stop(self, timeout_s: float) -> int | None:
        """SIGTERM; the exit code, or None where it does not end in time."""
        self.family.look()
        self.server.send(signal.SIGTERM)
        try:
            return self.server.wait(timeout_s)
        except psutil.TimeoutExpired:
            return None


@contextmanager
def whole(config: dict[str, Any]) -> Iterator[Whole]:
    """The server once it serves; whatever is left of it ends with the block."""
    server = Whole(config)
    try:
        server.server.until("Ctrl-C stops", START_S)
        yield server
    finally:
        if server.server.process.is_running():
            server.server.process.kill()
        server.server.process.wait(10)  # by the object that started it, which would miss it else
        server.family.end()
        server.server.process.stdout.close()
        for folder in (server.home, server.temporary):
            shutil.rmtree(folder, ignore_errors=True)


def _short_folder() -> Path:
    """HAProxy's sockets have a path of 97 characters at most, and Ray puts a node's id of 56 into
    it, which leaves less than `mkdtemp` makes."""
    while True:
        folder = Path(f"/tmp/w{secrets.token_hex(2)}")
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
            return folder


def ports(process: psutil.Process) -> list[int]:
    """Where it listens."""
    try:
        found = process.net_connections("tcp")
    except psutil.Error:
        return []
    return sorted({c.laddr.port for c in found if c.status == psutil.CONN_LISTEN})
