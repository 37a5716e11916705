"""From which checkouts a running process has imported llm-serve, read from its memory.

Python keeps the path of every module that it has imported. Unlike the process's environment this
cannot be wrong: the packages may be installed elsewhere too, and Ray puts folders of its own in
front of a worker's path. Linux only.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_MODULES = (b"/llm_serve/__init__.py\0", b"/deployments/__init__.py\0")
_LONGEST_PATH = 4096


def checkouts(pid: int) -> set[Path]:
    """The folders whose `llm_serve` or `deployments` the process has imported; none if it has
    imported neither, or has ended."""
    found = set()
    with suppress(FileNotFoundError, ProcessLookupError):
        for memory in _heap(pid):
            for module in _MODULES:
                at = memory.find(module)
                while at >= 0:
                    begin = memory.rfind(b"\0", max(0, at - _LONGEST_PATH), at) + 1
                    if memory[begin : begin + 1] == b"/":
                        found.add(Path(os.fsdecode(memory[begin:at])))
                    at = memory.find(module, at + 1)
    return found


def _heap(pid: int) -> Iterator[bytes]:
    """What the process may write and shares with nobody, where Python's objects are."""
    process = Path(f"/proc/{pid}")
    regions = (process / "maps").read_text().splitlines()
    with (process / "mem").open("rb", buffering=0) as memory:
        for line in regions:
            addresses, rights, _, _, inode, *_ = line.split()
            if not rights.startswith("rw-p") or inode != "0":
                continue
            begin, end = (int(address, 16) for address in addresses.split("-"))
            memory.seek(begin)
            with suppress(OSError):  # it was given back meanwhile
                yield memory.read(end - begin)
