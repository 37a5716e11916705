"""The environment of a start, its folder, and Ray's token."""

from __future__ import annotations

import os
import re
import stat
import tempfile
from pathlib import Path

import psutil
import pytest

from deployments.machine.environment import applied, ensure_token, serve_env, start_env
from deployments.machine.place import own_folder
from deployments.schema import ServeFile
from llm_serve.config import default_config
from tests.cli.processes import ROOT

FILE = ServeFile(config=default_config())


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

    monkeypatch.setattr("deployments.machine.place.psutil.pid_exists", swept_by_another)
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
    one = start_env(FILE, tmp_path / "a")
    two = start_env(FILE, tmp_path / "b")
    assert one["TMPDIR"] == str(tmp_path / "a")
    same = {name for name in one if one[name] == two[name]}
    assert one["LLM_SERVE_FOLDER"] == str(tmp_path / "a")
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
        assert start_env(FILE, folder)["TMPDIR"] == str(chosen)


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
