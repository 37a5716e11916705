"""`--before` compares two checkouts, and never one with itself."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.imported import checkouts
from bench.servers import HERE, Server, before, llm_serve, started

CONFIG = {"models": [{"id": "echo", "backend": "echo"}]}
SERVER = """
import http.server, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
sys.path.insert(0, sys.argv[2])
import llm_serve, deployments
handler = http.server.SimpleHTTPRequestHandler
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), handler).serve_forever()
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with both packages."""
    folder = tmp_path / "checkout"
    for package in ("llm_serve", "deployments"):
        (folder / package).mkdir(parents=True)
        (folder / package / "__init__.py").touch()
    return folder


@contextmanager
def _importing(name: str, checkout: Path) -> Iterator[int]:
    """The pid of a process that may import from the checkout, and has imported `name`."""
    code = f"import sys, {name}; print(flush=True); sys.stdin.read()"
    pipe = subprocess.PIPE
    command = [sys.executable, "-P", "-c", code]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, env={"PYTHONPATH": str(checkout)}) as p:
        assert p.stdout is not None
        p.stdout.readline()
        yield p.pid
        p.communicate()


def test_a_process_shows_from_which_checkout_it_has_imported(checkout: Path) -> None:
    with _importing("llm_serve", checkout) as pid:
        assert checkouts(pid) == {checkout}
    assert checkouts(pid) == set()


def test_the_environment_alone_says_nothing(checkout: Path) -> None:
    with _importing("sys", checkout) as pid:
        assert checkouts(pid) == set()


def test_a_server_that_imports_from_elsewhere_is_refused(checkout: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-c", SERVER, "{port}", str(checkout)]
    server = Server("before", command, "/", checkout=tmp_path)
    with pytest.raises(RuntimeError, match=f"has imported from .*{checkout}"), started(server):
        pass


def test_a_server_without_a_worker_of_ray_shows_nothing(checkout: Path) -> None:
    command = [sys.executable, "-P", "-c", SERVER, "{port}", str(checkout)]
    server = Server("before", command, "/", checkout=checkout)
    with pytest.raises(RuntimeError, match="nothing shows"), started(server):
        pass


def test_a_checkout_is_not_compared_with_itself(tmp_path: Path) -> None:
    server = llm_serve(tmp_path / "serve.yaml", CONFIG)
    (tmp_path / "same").symlink_to(HERE)
    with pytest.raises(SystemExit, match="is the checkout of this bench"):
        before(server, tmp_path / "same")
