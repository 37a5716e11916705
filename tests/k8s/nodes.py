"""A head and workers as KubeRay starts them, simulated on this machine, and what they serve."""

from __future__ import annotations

from typing import Any

import psutil

from tests.k8s.rendered import Object, Rendered
from tests.support.cluster import Cluster

_TITLE = "ray::ServeReplica:"


def order_of(overlay: Rendered, workers: int = 1) -> Object:
    """What `nodes_child` is told: the nodes with the overlay's parameters and labels, and its
    `serveConfigV2` with echo for the engines."""
    copied = overlay.copied()
    start = copied.head["rayStartParams"]
    for model in copied.application["args"]["models"]:
        model.update(backend="echo")
        model.pop("source", None)
    (group,) = copied.workers
    return {
        "head": {
            name: int(start[name.replace("_", "-")]) for name in ("num_cpus", "num_gpus", "memory")
        },
        "workers": [{"num_cpus": 4, "labels": group["labels"]}] * workers,
        "serve": copied.serve,
    }


class KubeRayNodes(Cluster):
    child_module = "tests.k8s.nodes_child"

    def raylets(self) -> dict[str, Any]:
        """`address`; `head` and `workers`, each with the `pid` of its raylet and Ray's `id`."""
        return self._send({"raylets": True})

    def replicas_of(self, raylet: int) -> list[psutil.Process]:
        children = psutil.Process(raylet).children()
        return [p for p in children if "".join(p.cmdline()[:1]).startswith(_TITLE)]

    def deployments(self, raylet: int) -> set[str]:
        """Of the replicas of a node; what one does at the moment, after its name, is cut off."""
        application = [p.cmdline()[0].split(":")[4] for p in self.replicas_of(raylet)]
        return {_name(title) for title in application}


def _name(title: str) -> str:
    method = title.rpartition(".")[2]
    return title.removesuffix(f".{method}") if method.islower() else title
