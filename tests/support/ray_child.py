"""The process that owns the tests' Ray cluster: `python -m tests.support.ray_child PORT`.

It keeps ray, its threads and its warnings out of pytest's own process. It starts as `llm-serve`
does, from the configuration in the first line of stdin, then obeys one JSON command a line, and
answers each line with one on the stdout it was started with:

    {"models": [...]}                                     {"ok": true}
    {"deploy": NAME, "prefix": "/x", "config": {...}}     {"ok": true}
    {"delete": NAME}                                      {"ok": false, "error": "..."}

It ends, and takes its cluster with it, when stdin closes: nothing is left even when pytest is
killed.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import ExitStack
from typing import Any

from deployments.machine.launch import Order, is_deployed, launch
from deployments.machine.place import open_door, own_folder
from deployments.machine.probe import Probe
from deployments.schema import ServeFile, deploy_schema
from llm_serve.config import DEFAULT_HOST, Config
from tests.support.waiting import until


def main(port: int) -> None:
    # Ray prints to stdout; the answers get a stream of their own.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    config = Config.model_validate_json(sys.stdin.readline())
    file = ServeFile(config=config, port=port)
    with ExitStack() as stack:
        folder = stack.enter_context(own_folder())
        door = stack.enter_context(open_door(file, folder))
        control = None if door is None else door.control
        order = Order(**dict(file), folder=folder, door=control)
        stack.enter_context(launch(order, dashboard=False))
        probe = Probe(config, file.host, port)
        until(lambda: is_deployed() and _settled(probe), "no model is loading", seconds=240)
        answers.write('{"ok": true}\n')
        applications = Applications(config, port)
        for line in sys.stdin:
            try:
                applications.obey(json.loads(line))
                answer: dict[str, Any] = {"ok": True}
            except Exception as error:
                answer = {"ok": False, "error": f"{type(error).__name__}: {error}"}
            answers.write(json.dumps(answer) + "\n")


def _settled(probe: Probe) -> bool:
    health = probe.health()
    return health is not None and health["status"] not in ("starting", "switching")


class Applications:
    """What is deployed, as one declarative configuration: `serve run` of a growing file."""

    def __init__(self, config: Config, port: int) -> None:
        self._schema = deploy_schema(config, DEFAULT_HOST, port)

    def obey(self, command: dict[str, Any]) -> None:
        from ray.serve.context import _get_global_client
        from ray.serve.schema import ServeDeploySchema

        name = command.get("deploy") or command["delete"]
        others = [a for a in self._schema["applications"] if a["name"] != name]
        if "deploy" in command:
            config = Config.model_validate(command["config"])
            (ours,) = deploy_schema(config, DEFAULT_HOST, 1)["applications"]
            others.append({**ours, "name": name, "route_prefix": command["prefix"]})
        self._schema["applications"] = others
        _get_global_client().deploy_apps(ServeDeploySchema.model_validate(self._schema))


if __name__ == "__main__":
    main(int(sys.argv[1]))
