"""Every command of k8s/README.md, as far as it goes without a cluster.

What needs one is given an address where nobody is: kubectl has then understood it.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.cli.processes import COMMAND
from tests.k8s.page import CURL, FILE, Command, commands
from tests.k8s.rendered import K8S, OVERLAYS, ROOT, Rendered, kubectl

COMMANDS = commands()
NOBODY = ("--server=http://127.0.0.1:1", "--request-timeout=2s")
SECRETS = {"llm-serve-keys": "keys", "llm-serve-hub": "token", "llm-serve-redis": "password"}
"""What is in each, as the manifests name it."""


@pytest.fixture
def run(tmp_path: Path) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """Runs a command in a folder that has the repository's files and a file of keys."""
    for item in ROOT.iterdir():
        (tmp_path / item.name).symlink_to(item)
    (tmp_path / "keys").write_text("a-key\n")
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, command in {"kubectl": [kubectl()], "llm-serve": COMMAND}.items():
        (tools / name).write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
        (tools / name).chmod(0o755)
    own = {"KUBECONFIG": os.devnull, "HOME": str(tmp_path), "HF_TOKEN": "hf_x"}
    path = {"PATH": f"{tools}:{os.environ['PATH']}", "PYTHONPATH": os.environ.get("PYTHONPATH", "")}

    def run(command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", command],
            cwd=tmp_path,
            env={**own, **path},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


Run = Callable[[str], subprocess.CompletedProcess[str]]


def has_secret(said: str) -> None:
    """What `kubectl create secret` would make is what the manifests ask for."""
    secret = yaml.safe_load(said)
    name = secret["metadata"]["name"]
    assert secret["metadata"]["namespace"] == "llm-serve"
    assert list(secret["data"]) == [SECRETS[name]]
    assert all(secret["data"].values())


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_commands(command: Command, run: Run) -> None:
    match shlex.split(command.text):
        case ["kubectl", "create", "secret", *words]:
            first = command.text.partition(" | ")[0]
            dry = "" if "--dry-run=client" in words else " --dry-run=client -o yaml"
            done = run(first + dry)
            assert done.returncode == 0, done.stderr
            has_secret(done.stdout)
        case ["kubectl", "kustomize", folder]:
            done = run(command.text)
            assert done.returncode == 0, done.stderr
            assert "kind: RayService" in done.stdout, folder
        case ["kubectl", "apply" | "diff", "-k", folder]:
            assert Path(folder).name in OVERLAYS
            assert Path(folder).parent == Path("k8s/overlays")
            refused(command.text, run)
        case ["kubectl", "apply", "-f", file]:
            assert (ROOT / file).is_file()
            refused(command.text, run)
        case ["kubectl", *_]:
            refused(command.text, run)
        case ["sed", *_]:
            done = run(command.text)
            assert done.returncode == 0, done.stderr
            assert "is fine: serves" in done.stdout
        case ["openssl", *_]:
            assert run(f"{command.text} && test -s keys").returncode == 0
        case ["docker", "build", "-f", file, "-t", image, "."]:
            assert (ROOT / file).is_file()
            assert image in deployed()
        case ["docker", "push", image]:
            assert image in deployed()
        case ["helm", "repo" | "install", *_]:
            pass  # there is no helm here; the version is looked at below
        case ["curl", *_]:
            assert command.text.startswith(CURL)  # tests/k8s/test_placement.py sends it
        case _:
            pytest.fail(f"k8s/README.md:{command.line}: nobody checks {command.text!r}")


def refused(text: str, run: Run) -> None:
    """kubectl has taken the command, and found nobody."""
    first, *rest = shlex.split(text)
    done = run(shlex.join([first, rest[0], *NOBODY, *rest[1:]]))
    assert done.returncode != 0
    assert re.search(r"connection refused|was refused", done.stderr), done.stderr


def deployed() -> set[str]:
    """The images of the overlays."""
    files = [K8S / "overlays" / name / "kustomization.yaml" for name in ("cpu", "gpu")]
    entries = [entry for file in files for entry in yaml.safe_load(file.read_text())["images"]]
    return {f"{entry['newName']}:{entry['newTag']}" for entry in entries}


def test_patches_are_of_what_there_is(rendered: Callable[[str], Rendered]) -> None:
    """Each path of a merge patch leads to something of the RayService, but for annotations."""
    patches = [shlex.split(c.text)[-1] for c in COMMANDS if " patch " in c.text]
    assert patches
    for patch in patches:
        here, there = yaml.safe_load(patch), rendered("cpu").service
        while isinstance(here, dict) and "annotations" not in here:
            ((key, here),) = here.items()
            assert key in there, patch
            there = there[key]


def test_every_secret_is_explained(rendered: Callable[[str], Rendered]) -> None:
    made = {shlex.split(c.text)[4] for c in COMMANDS if "create secret" in c.text}
    text = "\n".join(yaml.safe_dump_all(rendered(name).objects) for name in OVERLAYS)
    named = set(re.findall(r"secretName: (\S+)", text))
    refs = re.findall(r"secretKeyRef:\s+key: (\S+)\s+name: (\S+)", text)
    assert {name: key for key, name in refs} | dict.fromkeys(named, "keys") == SECRETS
    assert made == set(SECRETS)


def test_every_overlay_and_component_is_named() -> None:
    page = FILE.read_text()
    for folder in (K8S / "components").iterdir():
        assert f"`{folder.name}`" in page
    for name in OVERLAYS:
        assert f"`overlays/{name}`" in page
        assert any(f"k8s/overlays/{name}" in c.text for c in COMMANDS)
