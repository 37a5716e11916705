"""The process in which `llm-serve` runs Ray: `python -m deployments.machine.ray_process`.

It is apart from the command, since Ray ends the process that started it when it dies itself. The
first line of its input is the `Order`; it then says what happens, a JSON object a line:

    {"event": "ray", "logs": ..., "dashboard": ..., "token": ..., "vital": {NAME: PID}}
    {"event": "deployed"}                    the application runs
    {"event": "failed", "reason": ...}       it never will; the process ends
    {"event": "lost", "what": ...}           an actor that Ray does not start again any more
    {"event": "draining"}                    the answer to `drain`

and obeys one word a line: `drain`. It stops all that it started when its input ends.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import signal
import sys
import threading
import time
from dataclasses import asdict
from typing import Any, TextIO

from deployments.machine.launch import (
    Order,
    RayFacts,
    StartFailed,
    drain,
    has_controller,
    is_deployed,
    launch,
)
from deployments.machine.warm_worker import warm_worker
from llm_serve.host.processes import adopt_orphans, end_all

log = logging.getLogger("llm_serve.ray_process")
DISK_FULL = "The disk is full; Ray needs room for its logs. Free some and try again."
_LOOK_S = 0.2
_ACTORS_S = 2.0


class Reporter:
    """Says one JSON object a line; from any thread."""

    def __init__(self, output: TextIO) -> None:
        self._output = output
        self._lock = threading.Lock()

    def say(self, event: str, **more: Any) -> None:
        with self._lock:
            self._output.write(json.dumps({"event": event, **more}) + "\n")
            self._output.flush()


def main() -> None:
    adopt_orphans()
    # Ray and its children print to stdout; what is said gets a stream of its own.
    reporter = Reporter(os.fdopen(os.dup(1), "w"))
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    order = Order.model_validate_json(sys.stdin.readline())
    try:
        with launch(order) as facts, warm_worker(order.config, order.folder):
            _watch(facts, reporter)
    except StartFailed as error:
        reporter.say("failed", reason=str(error))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        reporter.say("failed", reason=DISK_FULL)
    finally:
        end_all()


def _watch(facts: RayFacts, reporter: Reporter) -> None:
    """Says what happens, until the input ends."""
    reporter.say("ray", **asdict(facts))
    commands = threading.Thread(target=_obey, args=(reporter,), daemon=True)
    commands.start()
    deployed = False
    looked = time.monotonic()
    while commands.is_alive():
        if not deployed and is_deployed():
            deployed = True
            reporter.say("deployed")
        if deployed and time.monotonic() - looked > _ACTORS_S:
            looked = time.monotonic()
            if not has_controller():
                reporter.say("lost", what="Serve controller")
        time.sleep(_LOOK_S)


def _obey(reporter: Reporter) -> None:
    for line in sys.stdin:
        if line.strip() == "drain":
            try:
                drain()
            except Exception:
                log.exception("the director could not be told to drain")
            reporter.say("draining")


if __name__ == "__main__":
    main()
