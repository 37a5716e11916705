"""The process that owns the tests' Ray cluster: `python -m tests.support.ray_child`.

It keeps ray, its threads and its warnings out of pytest's own process. It reads one JSON command
a line from stdin and answers each with one JSON line on the stdout it was started with:

    {"deploy": NAME, "prefix": "/x", "config": {...}}     {"ok": true}
    {"delete": NAME}                                      {"ok": true}

It ends, and takes its cluster with it, when stdin closes: nothing is left even when pytest is
killed.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from tests.support.ports import free_port

FLAGS = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "deployments.front.middlewares",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
}


def main(port: int) -> None:
    # Ray prints to stdout; the answers get a stream of their own.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    os.environ.update(FLAGS)
    for name in ("HAPROXY_METRICS_PORT", "HAPROXY_STATS_PORT", "FALLBACK_PROXY_HTTP_PORT"):
        os.environ[f"RAY_SERVE_{name}"] = str(free_port())
    import ray
    from ray import serve

    ray.init(address="local", include_dashboard=False, num_cpus=2, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    answers.write('{"ok": true}\n')
    try:
        for line in sys.stdin:
            try:
                _obey(json.loads(line))
                answer: dict[str, Any] = {"ok": True}
            except Exception as error:
                answer = {"ok": False, "error": f"{type(error).__name__}: {error}"}
            answers.write(json.dumps(answer) + "\n")
    finally:
        serve.shutdown()
        ray.shutdown()


def _obey(command: dict[str, Any]) -> None:
    from ray import serve

    from deployments.graph import build
    from llm_serve.config import Config

    if "delete" in command:
        serve.delete(command["delete"], _blocking=False)
        return
    config = Config.model_validate(command["config"])
    serve.run(build(config), name=command["deploy"], route_prefix=command["prefix"])


if __name__ == "__main__":
    main(int(sys.argv[1]))
