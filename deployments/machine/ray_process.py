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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from deployments.machine.launch import Cluster, Place, StartFailed, launch
from deployments.machine.warm import warm_worker
from llm_serve.config import Config
from llm_serve.host.processes import adopt_orphans, end_all

log = logging.getLogger("llm_serve.ray_process")
DISK_FULL = "The disk is full; Ray needs room for its logs. Free some and try again."
_LOOK_S = 0.2
_ACTORS_S = 2.0


@dataclass(frozen=True, slots=True)
class Order:
    """What to serve, and where."""

    config: Config
    host: str
    port: int
    schema: dict[str, Any] | None
    place: Place

    def to_json(self) -> str:
        door = None if self.place.door is None else str(self.place.door)
        return json.dumps(
            {
                "config": self.config.model_dump(mode="json", exclude_unset=True),
                "host": self.host,
                "port": self.port,
                "schema": self.schema,
                "folder": str(self.place.folder),
                "door": door,
            },
            default=str,
        )

    @classmethod
    def from_json(cls, text: str) -> Order:
        fields = json.loads(text)
        door = None if fields["door"] is None else Path(fields["door"])
        return cls(
            Config.model_validate(fields["config"]),
            fields["host"],
            fields["port"],
            fields["schema"],
            Place(Path(fields["folder"]), door),
        )


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
    order = Order.from_json(sys.stdin.readline())
    try:
        with launch(
            order.config,
            host=order.host,
            port=order.port,
            schema=order.schema,
            place=order.place,
        ) as cluster:
            _serve(cluster, reporter)
    except StartFailed as error:
        reporter.say("failed", reason=str(error))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        reporter.say("failed", reason=DISK_FULL)
    finally:
        end_all()


def _serve(cluster: Cluster, reporter: Reporter) -> None:
    reporter.say(
        "ray",
        logs=str(cluster.logs),
        dashboard=cluster.dashboard,
        token=cluster.token,
        vital={process.name(): process.pid for process in cluster.vital},
    )
    commands = threading.Thread(target=_obey, args=(cluster, reporter), daemon=True)
    commands.start()
    deployed = False
    looked = time.monotonic()
    with warm_worker(cluster.warm_folder):
        while commands.is_alive():
            if not deployed and cluster.is_deployed():
                deployed = True
                reporter.say("deployed")
            if deployed and time.monotonic() - looked > _ACTORS_S:
                looked = time.monotonic()
                if not cluster.has_controller():
                    reporter.say("lost", what="Serve controller")
            time.sleep(_LOOK_S)


def _obey(cluster: Cluster, reporter: Reporter) -> None:
    for command in _commands():
        if command == "drain":
            try:
                cluster.drain()
            except Exception:
                log.exception("the director could not be told to drain")
            reporter.say("draining")


def _commands() -> Iterator[str]:
    while line := sys.stdin.readline():
        yield line.strip()


if __name__ == "__main__":
    main()
