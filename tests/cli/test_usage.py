"""What `llm-serve` says without starting anything."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from llm_serve import __version__
from tests.cli.processes import ROOT, Run, environment


def test_help_shows_the_options_and_the_commands(run: Run) -> None:
    done = run("--help")
    assert done.returncode == 0
    for word in ("--config", "--model", "--backend", "--host", "--port", "check", "pull"):
        assert word in done.stdout
    assert "Default: 11424" in done.stdout
    assert "╭" not in done.stdout
    assert "..." not in done.stdout.replace("[ARGS]...", "")


@pytest.mark.parametrize(("verb", "word"), [("check", "CONFIG"), ("pull", "MODEL")])
def test_help_of_a_verb(run: Run, verb: str, word: str) -> None:
    done = run(verb, "--help")
    assert done.returncode == 0
    assert word in done.stdout


def test_version(run: Run) -> None:
    assert run("--version").stdout.strip() == __version__
    assert run("serve", "--version").stdout.strip() == __version__


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--prot", "1"), "--port"),
        (("--port", "99999"), "65535"),
        (
            ("--backend", "foo"),
            "should be 'transformers', 'vllm', 'tensorrt_llm' or 'echo', not 'foo'",
        ),
        (("--model", "no such model"), "write org/name"),
        (("--model", "wheel:nothing"), "wheel:dist==version/path/in/wheel"),
        (("--config", "missing.yaml"), "missing.yaml:1: cannot be read: No such file"),
        (("--port", "1", "check", "x"), "go after it"),
        (("chekc",), "No such command"),
    ],
)
def test_wrong_usage_is_a_sentence_and_exits_2(
    run: Run, arguments: tuple[str, ...], says: str
) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_port_in_use_names_the_holder_before_anything_starts(run: Run) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        taken = holder.getsockname()[1]
        done = run("--backend", "echo", "--port", str(taken))
    assert done.returncode == 1
    assert f"Port {taken} is in use by" in done.stderr
    assert "--port" in done.stderr
    assert "Starting Ray" not in done.stdout


def test_host_that_is_not_ours(run: Run) -> None:
    done = run("--backend", "echo", "--host", "203.0.113.7")
    assert done.returncode == 1
    assert "no address of this machine" in done.stderr


def test_a_folder_without_a_model_is_a_sentence(run: Run, port: int) -> None:
    done = run("--model", ".", "--port", str(port))
    assert done.returncode == 1
    assert "config.json" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_model_id_that_the_hub_does_not_give(run: Run, port: int) -> None:
    done = run("--model", "no/such-model", "--port", str(port), HF_ENDPOINT="http://127.0.0.1:9")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "no/such-model" in done.stderr
    assert "Starting Ray" not in done.stdout


def test_the_command_line_needs_no_ray_to_say_its_help() -> None:
    code = (
        "import sys; import llm_serve.cli.main; "
        "sys.exit(any(m in sys.modules for m in ('ray', 'torch', 'transformers')))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(ROOT), check=False)
    assert done.returncode == 0
