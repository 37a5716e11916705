"""What each start of a server has for itself: a folder, and the door to its public address.

The folders of starts that were killed are removed by the next one.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from deployments.door.door import DoorThread
from deployments.door.haproxy import STARTING
from deployments.machine.environment import haproxy_is_on
from deployments.schema import ServeFile

_LONGEST = 10
"""HAProxy's unix sockets have paths of 97 characters, of which a node's id takes 57, the name in it
8, and ours 21."""


@contextmanager
def own_folder() -> Iterator[Path]:
    """A folder for this user alone, with a short path; removed at the end of the block."""
    parent = Path(tempfile.gettempdir())
    if os.name == "posix" and len(str(parent)) > _LONGEST:
        parent = Path("/tmp")
    _sweep(parent)
    folder = Path(tempfile.mkdtemp(prefix=f"llm-{os.getpid()}-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def open_door(file: ServeFile, folder: Path) -> Iterator[DoorThread | None]:
    """From here to the end of the block nobody who connects is refused. None where Ray's own proxy
    takes the requests. Raises PortTaken and NotServed."""
    if not haproxy_is_on():
        yield None
        return
    door = DoorThread(folder, file.host, file.port, file.config.server.body_timeout_s)
    try:
        yield door.open(STARTING)
    finally:
        door.shut()


def _sweep(parent: Path) -> None:
    """Removes our folders whose process is gone."""
    for folder in parent.glob("llm-*-*"):
        pid = re.fullmatch(r"llm-(\d+)-\w{8}", folder.name)
        if pid and not psutil.pid_exists(int(pid[1])):
            with suppress(FileNotFoundError):  # another start sweeps as well
                if folder.lstat().st_uid == os.getuid():
                    shutil.rmtree(folder, ignore_errors=True)
