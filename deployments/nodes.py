"""How much memory the cluster has for models: the bins of the residency scheduler."""

from __future__ import annotations

from typing import Any

import ray

from llm_serve.config import Config, EchoEngine, ModelConfig, PassedOn, TransformersEngine

_UNKNOWN_GPU_BYTES = 2**40
"""A GPU whose memory Ray does not tell counts as roomy; a replica takes GPUs whole anyway."""


def gpus_of(model: ModelConfig) -> float:
    """GPUs of one replica: as configured, else one where the cluster has any."""
    if model.num_gpus is not None:
        return model.num_gpus
    if isinstance(model.engine, EchoEngine):
        return 0
    if isinstance(model.engine, TransformersEngine) and model.engine.device in ("cpu", "mps"):
        return 0
    if not ray.is_initialized() or ray.cluster_resources().get("GPU", 0) < 1:
        return 0
    return model.engine.gpus if isinstance(model.engine, PassedOn) else 1


def my_bins() -> tuple[str, ...]:
    """The bins of the process that asks: its GPUs, or the host memory of its node."""
    node = ray.get_runtime_context().get_node_id()
    gpus = tuple(f"{node}/gpu{i}" for i in ray.get_gpu_ids())
    return gpus or (node,)


def is_gpu(name: str) -> bool:
    """Whether a bin is an accelerator, or else a node's host memory."""
    return "/gpu" in name


def capacity(config: Config) -> dict[str, int]:
    """Bytes that models may use, by bin: each GPU of the cluster, or where it has none, the host
    memory of each node."""
    bins: dict[str, int] = {}
    for node in ray.nodes():
        if node["Alive"]:
            bins |= node_bins(node["NodeID"], node["Resources"], config)
    return {name: size for name, size in bins.items() if is_gpu(name)} or bins


def node_bins(node: str, resources: dict[str, Any], config: Config) -> dict[str, int]:
    """The bins of one node, from its Ray resources."""
    residency = config.residency
    reserve = int(residency.reserve_gb * 2**30)
    given = None if residency.memory_gb is None else int(residency.memory_gb * 2**30)
    gpus = int(resources.get("GPU", 0))
    if gpus:
        each = given if given is not None else _UNKNOWN_GPU_BYTES
        return {f"{node}/gpu{i}": each for i in range(gpus)}
    host = int(resources.get("memory", 0))
    return {node: given if given is not None else max(0, host - reserve)}
