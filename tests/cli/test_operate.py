"""`llm-serve ps`, `models`, `load` and `unload` over a real server in this process."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.cli.processes import COMMAND, ROOT, Run, Server, environment
from tests.support.inprocess import echo
from tests.support.operated import Running, running

MODELS = [echo("echo/a"), echo("org/b", context_length=2048), echo("c")]


@pytest.fixture
def server() -> Iterator[Running]:
    with running(*MODELS) as running_server:
        running_server.gateway.set("echo/a", state="ready", replicas=1, pinned=True)
        yield running_server


def rows(output: str) -> dict[str, list[str]]:
    """The cells of each line, by the first one."""
    lines = [line.split() for line in output.splitlines()]
    return {cells[0]: cells[1:] for cells in lines}


def test_ps_shows_what_every_model_does(run: Run, server: Running) -> None:
    server.gateway.set("org/b", state="loading", stage="weights", progress=0.4, position=0)
    reason = "The disk is cursed. " * 20
    server.gateway.set("c", state="failed", error=reason.strip(), cooldown_s=9.0)
    done = run("ps", "--url", server.url)
    assert (done.returncode, done.stderr) == (0, "")
    shown = rows(done.stdout)
    titles = ["STATUS", "LOAD", "RUNNING", "QUEUED", "MEMORY", "REPLICAS", "LAST", "ERROR"]
    assert shown["MODEL"] == titles
    assert shown["echo/a"] == ["ready", "-", "0", "0", "0", "MiB", "1", "-"]
    assert shown["org/b"] == ["loading", "weights", "40%", "0", "0", "-", "0", "-"]
    assert shown["c"][:5] == ["failed", "again", "in", "9", "s"]
    assert reason.strip() in done.stdout, "the reason is whole where nobody's terminal cuts it"


def test_models_is_the_allowlist(run: Run, server: Running) -> None:
    shown = rows(run("models", "--url", f"{server.url}/v1/").stdout)
    assert shown["echo/a"] == ["echo", "ready", "8192", "default,", "pinned"]
    assert shown["org/b"] == ["echo", "unloaded", "-", "-"]


def test_load_says_how_far_it_is_until_the_model_is_ready(
    start: Callable[..., Server], server: Running
) -> None:
    server.gateway.set("org/b", state="queued", position=2)
    load = start("load", "org/b", "--url", server.url)
    load.until("org/b is number 2 in line.")
    server.gateway.set("org/b", state="loading", stage="starting", position=0)
    load.until("Starting the engine of org/b ...")
    server.gateway.set("org/b", stage="weights", progress=0.0)
    load.until("Loading org/b ...")
    server.gateway.set("org/b", progress=0.5)
    load.until("Loading org/b: 50%")
    server.gateway.set("org/b", state="ready", stage=None, progress=None)
    assert load.wait() == 0
    assert load.lines[-1].startswith("org/b is ready after ")


def test_load_of_a_ready_model_is_done_at_once(run: Run, server: Running) -> None:
    done = run("load", "echo/a", "--url", server.url)
    assert (done.returncode, done.stdout) == (0, "echo/a is ready.\n")


def test_load_need_not_wait(run: Run, server: Running) -> None:
    done = run("load", "c", "--no-wait", "--url", server.url)
    assert done.returncode == 0
    assert done.stdout.startswith("c is on its way")


def test_a_load_that_fails_says_why(
    run: Run, start: Callable[..., Server], server: Running
) -> None:
    server.gateway.set("c", state="loading", stage="starting")
    load = start("load", "c", "--url", server.url)
    load.until("Starting the engine of c ...")
    server.gateway.set("c", state="failed", error="The weights are cursed.")
    assert load.wait() == 1
    says = "Error: c could not be loaded: The weights are cursed."
    assert load.lines[-1] == says
    again = run("load", "c", "--url", server.url)
    assert (again.returncode, again.stderr) == (1, f"{says}\n")


def test_a_load_that_another_undoes(start: Callable[..., Server], server: Running) -> None:
    server.gateway.set("c", state="loading", stage="starting")
    load = start("load", "c", "--url", server.url)
    load.until("Starting the engine of c ...")
    server.gateway.set("c", state="unloaded")
    assert load.wait() == 1
    assert "c is not loaded after all" in load.lines[-1]


def test_unload(run: Run, server: Running) -> None:
    server.gateway.set("org/b", state="ready")
    done = run("unload", "org/b", "--url", server.url)
    assert done.returncode == 0
    assert done.stdout == "org/b leaves once its requests in flight are done.\n"
    assert run("unload", "c", "--url", server.url).stdout == "c is not loaded.\n"
    pinned = run("unload", "echo/a", "--url", server.url)
    assert pinned.returncode == 1
    assert pinned.stderr == "Error: echo/a: the model is pinned; unpin it first.\n"


@pytest.mark.parametrize("verb", ["load", "unload"])
def test_an_unknown_model_is_named_with_the_known_ones(
    run: Run, server: Running, verb: str
) -> None:
    done = run(verb, "nope", "--url", server.url)
    assert done.returncode == 2
    assert "'nope'" in done.stderr
    assert "echo/a" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("ps",), "No server answers at http://127.0.0.1:9. Start one with `llm-serve`"),
        (("models",), "--url"),
        (("load", "x"), "--url"),
        (("unload", "x"), "--url"),
    ],
)
def test_no_server(run: Run, arguments: tuple[str, ...], says: str) -> None:
    done = run(*arguments, "--url", "http://127.0.0.1:9")
    assert done.returncode == 1
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_url_that_is_none(run: Run) -> None:
    for url in ("127.0.0.1:11424", "http://[", "nonsense"):
        done = run("ps", "--url", url)
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr


def test_another_server(run: Run, server: Running) -> None:
    done = run("ps", "--url", f"{server.url}/elsewhere")
    assert done.returncode == 1
    assert "There is no /elsewhere/v1/models" in done.stderr


def test_keys(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# mine\nsk-1\n")
    with running(*MODELS, keys=("sk-1",)) as server:
        assert run("ps", "--url", server.url, "--key-file", str(file)).returncode == 0
        missing = run("ps", "--url", server.url)
        assert missing.returncode == 1
        assert "--key-file" in missing.stderr
        file.write_text("wrong\n")
        assert run("ps", "--url", server.url, "--key-file", str(file)).returncode == 1
    nowhere = run("ps", "--key-file", "nowhere")
    assert nowhere.returncode == 2
    assert nowhere.stderr == "Error: --key-file cannot be read: No such file or directory.\n"


def test_watching_in_a_terminal_draws_bars_until_it_is_stopped(
    server: Running, tmp_path: Path
) -> None:
    ours, theirs = pty.openpty()
    shown = b""
    with subprocess.Popen(
        [*COMMAND, "ps", "-w", "--url", server.url],
        cwd=ROOT,
        env={**environment(tmp_path), "TERM": "xterm"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as child:
        os.close(theirs)
        try:
            while b"unloaded" not in shown:
                shown += os.read(ours, 4096)
            server.gateway.set("org/b", state="loading", stage="weights", progress=0.4)
            while b"40%" not in shown:
                shown += os.read(ours, 4096)
            assert "━".encode() in shown
            child.send_signal(signal.SIGINT)
            with suppress(OSError):  # the terminal is gone, and so is who wrote to it
                while os.read(ours, 4096):  # unread, it fills up, and the writer waits
                    pass
            assert child.wait(10) == 0
        finally:
            child.kill()
            os.close(ours)
