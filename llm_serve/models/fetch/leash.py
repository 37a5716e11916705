"""Runs a module in this process, which ends when its parent does.

    python -m llm_serve.models.fetch.leash pip download ...

The parent holds the other end of our stdin. When it dies, however it dies, the pipe closes and we
leave at once, so that a killed server leaves no download or conversion behind it.
"""

from __future__ import annotations

import os
import runpy
import sys
import threading


def main() -> None:
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _leave_with_parent() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
