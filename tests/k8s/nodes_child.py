"""As `tests.support.nodes_child`, with a head and workers as KubeRay starts them, and with what
a `serveConfigV2` says, on another address:

    {"head": {...}, "workers": [{...}], "serve": {...}}    {"ok": true}    options of the nodes
    {"raylets": true}    {"ok": true, "address": ..., "head": {"pid", "id"}, "workers": [...]}
"""

from __future__ import annotations

import json
import logging
import os
import sys
from typing import Any

from deployments.machine.environment import applied, serve_env, start_env
from deployments.machine.place import own_folder
from deployments.schema import ServeFile
from llm_serve.config import DEFAULT_HOST, Config

_OBJECTS = 80 * 2**20


class Nodes:
    def __init__(self, head: dict[str, Any], workers: list[dict[str, Any]], serve: Any) -> None:
        import ray
        from ray._common.utils import reset_ray_address
        from ray.cluster_utils import Cluster
        from ray.serve._private.api import serve_start
        from ray.serve.schema import ServeDeploySchema

        options = {**head, "object_store_memory": _OBJECTS, "include_dashboard": False}
        self._cluster = Cluster(initialize_head=True, head_node_args=options)
        self._workers = [
            self._cluster.add_node(**{**worker, "object_store_memory": _OBJECTS})
            for worker in workers
        ]
        ray.init(
            address=self._cluster.address,
            namespace="serve",
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
        reset_ray_address()  # as under llm-serve: no file says which cluster was started last
        schema = ServeDeploySchema.model_validate(serve)
        http = schema.http_options.model_dump()
        # The nodes share one address here, so that one HAProxy is all that can be.
        serve_start(http_options=http, proxy_location="HeadOnly").deploy_apps(schema)

    def raylets(self) -> dict[str, Any]:
        head, *workers = [
            {"pid": node.all_processes["raylet"][0].process.pid, "id": node.node_id}
            for node in (self._cluster.head_node, *self._workers)
        ]
        address = self._cluster.address
        return {"ok": True, "address": address, "head": head, "workers": workers}

    def stop(self) -> None:
        import ray

        ray.shutdown()
        self._cluster.shutdown()


def main(port: int) -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    order = json.loads(sys.stdin.readline())
    serve = {**order["serve"], "http_options": {"host": DEFAULT_HOST, "port": port}}
    config = Config.model_validate(serve["applications"][0]["args"])
    with own_folder() as folder:
        variables = start_env(ServeFile(config=config), folder)
        with applied({**variables, "RAY_AUTH_MODE": "disabled"}, serve_env()):
            nodes = Nodes(order["head"], order["workers"], serve)
            try:
                answers.write('{"ok": true}\n')
                for _ in sys.stdin:
                    answers.write(json.dumps(nodes.raylets()) + "\n")
            finally:
                nodes.stop()


if __name__ == "__main__":
    main(int(sys.argv[1]))
