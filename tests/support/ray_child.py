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
from typing import Any

from deployments.launch import launch
from llm_serve.config import Config


def main(port: int) -> None:
    # Ray prints to stdout; the answers get a stream of their own.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    config = Config.model_validate_json(sys.stdin.readline())
    with launch(config, port=port, dashboard=False) as running:
        running.wait(timeout_s=240)
        answers.write('{"ok": true}\n')
        for line in sys.stdin:
            try:
                _obey(json.loads(line))
                answer: dict[str, Any] = {"ok": True}
            except Exception as error:
                answer = {"ok": False, "error": f"{type(error).__name__}: {error}"}
            answers.write(json.dumps(answer) + "\n")


def _obey(command: dict[str, Any]) -> None:
    from ray import serve

    from deployments.graph import build

    if "delete" in command:
        serve.delete(command["delete"], _blocking=False)
        return
    config = Config.model_validate(command["config"])
    application = serve.RunTarget(
        build(config), name=command["deploy"], route_prefix=command["prefix"]
    )
    serve.run_many([application], wait_for_applications_running=False)


if __name__ == "__main__":
    main(int(sys.argv[1]))
