"""As `ray_child`, over a cluster of several nodes on this machine, which come and go on command:

    {"models": [...]}     {"ok": true}            the configuration, on the head node alone
    {"add": GPUS}         {"ok": true, "node": NUMBER}
    {"remove": NUMBER}    {"ok": true}            its processes are killed, as a power cut would

Every node is simulated by `ray.cluster_utils.Cluster`; their GPUs are numbers in Ray's books.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from typing import Any

from deployments.machine.environment import applied, serve_env, start_env
from deployments.machine.place import own_folder
from deployments.schema import ServeFile, deploy_schema
from llm_serve.config import DEFAULT_HOST, Config

_NODE = {"num_cpus": 4, "object_store_memory": 80 * 2**20}
_LOOKS = {"RAY_health_check_initial_delay_ms": "1000", "RAY_health_check_period_ms": "500"}
"""Ray looks five times for a node that does not answer; its own period is 3 s."""


class Nodes:
    """The cluster; the head has one GPU, the Serve controller and HAProxy."""

    def __init__(self, config: Config, port: int) -> None:
        import ray
        from ray._common.utils import reset_ray_address
        from ray.cluster_utils import Cluster
        from ray.serve._private.api import serve_start
        from ray.serve.schema import ServeDeploySchema

        head = {**_NODE, "num_gpus": 1, "include_dashboard": False}
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        self._workers: list[Any] = []
        ray.init(
            address=self._cluster.address,
            namespace="serve",
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
        reset_ray_address()  # as under llm-serve: no file says which cluster was started last
        schema = ServeDeploySchema.model_validate(deploy_schema(config, DEFAULT_HOST, port))
        options = schema.http_options.model_dump()
        serve_start(http_options=options, proxy_location="HeadOnly").deploy_apps(schema)

    def obey(self, command: dict[str, Any]) -> dict[str, Any]:
        if "add" in command:
            self._workers.append(self._cluster.add_node(num_gpus=command["add"], **_NODE))
            return {"ok": True, "node": len(self._workers) - 1}
        self._cluster.remove_node(self._workers[command["remove"]], allow_graceful=False)
        return {"ok": True}

    def stop(self) -> None:
        import ray

        ray.shutdown()
        self._cluster.shutdown()


def main(port: int) -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    config = Config.model_validate_json(sys.stdin.readline())
    with own_folder() as folder:
        variables = {**start_env(ServeFile(config=config), folder), **_LOOKS}
        with applied({**variables, "RAY_AUTH_MODE": "disabled"}, serve_env()):
            nodes = Nodes(config, port)
            try:
                answers.write('{"ok": true}\n')
                for line in sys.stdin:
                    answers.write(json.dumps(nodes.obey(json.loads(line))) + "\n")
            finally:
                nodes.stop()


if __name__ == "__main__":
    main(int(sys.argv[1]))
