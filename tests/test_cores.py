"""Who gives way to an engine that has bound its threads to cores."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux has these calls")


@pytest.mark.parametrize(
    ("cores", "bound", "left", "waits"),
    [
        (2, {0}, {1}, True),
        (4, {0, 1, 2}, {3}, True),
        (8, set(range(7)), set(range(8)), False),
        (2, {0, 1}, {0, 1}, False),
        (2, set(), {0, 1}, False),
    ],
)
def test_all_else_keeps_off_its_cores_where_enough_are_left(
    cores: int, bound: set[int], left: set[int], waits: bool
) -> None:
    from deployments.cluster.cores import beside

    place = beside(frozenset(bound), frozenset(range(cores)))
    assert place.cores == left
    assert place.policy == (os.SCHED_BATCH if waits else os.SCHED_OTHER)


Start = Callable[..., Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a process that has this name and these options, and where no script is
    given, waits on one core for its end."""
    with ExitStack() as running:

        def start(name: str, *options: str, script: str = "", **env: str) -> Popen[str]:
            program = tmp_path / name
            if not program.exists():
                program.symlink_to("/bin/sh")
            process = Popen(
                [program, "-c", script or "read line", *options],
                stdin=PIPE,
                stdout=PIPE,
                text=True,
                env=os.environ | env,
            )
            running.callback(process.communicate, "\n")
            if not script:
                os.sched_setaffinity(process.pid, {min(os.sched_getaffinity(0))})
            return process

        yield start


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="nothing could be seen on one core")
def test_a_stranger_beside_is_left_alone(tmp_path: Path, start: Start) -> None:
    from deployments.cluster.cores import NICENESS

    session, folder = f"session_2026-01-01_00-00-00_0_{os.getpid()}", tmp_path / "own"
    ours = [
        start("gcs_server", f"--session-name={session}"),
        start("monitor.py", f"--logs-dir=/tmp/ray/{session}/logs"),
    ]
    our_proxy = start("haproxy", "-db", "-f", str(folder / "haproxy.cfg"))
    others = [
        start("gcs_server", f"--session-name={session}0"),
        start("monitor.py", "-f", f"/tmp/ray/{session}/logs/monitor.log"),
        start("gcs_server"),
        start("haproxy", "-f", str(tmp_path / "own-not" / "haproxy.cfg")),
        start("haproxy"),
    ]
    raylet = start(
        "raylet",
        f"--raylet_socket_name=/tmp/ray/{session}/sockets/raylet",
        script=f"{sys.executable} -c 'from deployments.cluster.cores import settle; settle()'\n"
        "echo done; read line",
        LLM_SERVE_FOLDER=str(folder),
    )
    assert raylet.stdout is not None
    assert raylet.stdout.readline() == "done\n"
    every = os.sched_getaffinity(0)
    for process in ours:
        assert os.getpriority(os.PRIO_PROCESS, process.pid) == NICENESS
        assert os.sched_getaffinity(process.pid) == every
    assert os.sched_getaffinity(our_proxy.pid) == every
    assert os.getpriority(os.PRIO_PROCESS, our_proxy.pid) == 0
    for process in others:
        assert os.getpriority(os.PRIO_PROCESS, process.pid) == 0
        assert len(os.sched_getaffinity(process.pid)) == 1
