"""How much memory the cluster has for models: the bins of the residency scheduler."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from llm_serve.config import Config, EchoEngine, ModelConfig, PassThroughEngine, TransformersEngine
from llm_serve.residency.plan.budget import is_accelerator

_UNKNOWN_GPU_BYTES = 2**40
"""A GPU whose memory its node does not tell counts as roomy."""


def with_gpus(config: Config) -> Config:
    """The configuration with `num_gpus` of every model filled in: where that is null, one or what
    the engine needs, if the cluster has any now. Asked once for each deployment, so that Ray, the
    director and the replicas agree whatever joins later."""
    there = ray.is_initialized() and ray.cluster_resources().get("GPU", 0) >= 1

    def filled(model: ModelConfig) -> ModelConfig:
        if model.num_gpus is not None:
            return model
        return model.model_copy(update={"num_gpus": gpus_wanted(model) if there else 0})

    return config.model_copy(update={"models": tuple(filled(m) for m in config.models)})


def gpus_wanted(model: ModelConfig) -> float:
    """GPUs that a replica takes where there are some, and nothing is configured."""
    match model.engine:
        case EchoEngine() | TransformersEngine(device="cpu" | "mps"):
            return 0
        case PassThroughEngine():
            return model.engine.gpus
        case _:
            return 1


def left_behind(config: Config, before: Iterable[str], now: Iterable[str]) -> list[str]:
    """The models that run without GPUs though their engine would take some, where the first ones
    have joined between these two lists of bins."""
    if any(is_accelerator(b) for b in before) or not any(is_accelerator(b) for b in now):
        return []
    return [m.id for m in config.models if not m.num_gpus and gpus_wanted(m)]


def my_bins() -> tuple[str, ...]:
    """The bins of the process that asks: its GPUs, or the host memory of its node."""
    node = ray.get_runtime_context().get_node_id()
    gpus = tuple(f"{node}/gpu{i}" for i in ray.get_gpu_ids())
    return gpus or (node,)


def capacity(config: Config, gpus: Mapping[str, tuple[int, ...]] | None = None) -> dict[str, int]:
    """Bytes that models may use, by bin: each GPU of the cluster, and the host memory of each node.

    `gpus` has the bytes of each GPU of the nodes that told (`GpuMemory`)."""
    bins: dict[str, int] = {}
    for node in ray.nodes():
        if node["Alive"]:
            name = node["NodeID"]
            bins |= node_bins(name, node["Resources"], config, (gpus or {}).get(name, ()))
    return bins


def node_bins(
    node: str, resources: dict[str, Any], config: Config, gpus: tuple[int, ...] = ()
) -> dict[str, int]:
    """The bins of one node, from its Ray resources and the bytes of its GPUs as far as known."""
    residency = config.residency
    reserve = int(residency.reserve_gb * 2**30)

    def usable(size: int | None) -> int:
        if residency.memory_gb is not None:
            given = int(residency.memory_gb * 2**30)
            return given if size is None else min(given, size)
        return _UNKNOWN_GPU_BYTES if size is None else max(0, size - reserve)

    bins = {
        f"{node}/gpu{i}": usable(gpus[i] if i < len(gpus) else None)
        for i in range(int(resources.get("GPU", 0)))
    }
    host = int(resources.get("memory", 0))
    # An operator may know of more than Ray does.
    return bins | {node: usable(host) if residency.memory_gb is None else usable(None)}


class GpuMemory:
    """Asks each node that has GPUs, once, how large they are; without waiting for the answer."""

    def __init__(self) -> None:
        self.known: dict[str, tuple[int, ...]] = {}
        self._asked: dict[str, Any] = {}

    def look(self) -> None:
        """Blocks for as long as Ray takes to list its nodes. What a node does not tell is unknown,
        and counts as roomy."""
        for node in ray.nodes():
            name = node["NodeID"]
            if not node["Alive"] or not node["Resources"].get("GPU") or name in self.known:
                continue
            if name not in self._asked:
                there = NodeAffinitySchedulingStrategy(name, soft=False)
                self._asked[name] = (
                    ray.remote(_sizes)
                    .options(num_cpus=0, max_retries=0, scheduling_strategy=there)
                    .remote()
                )
            elif ray.wait([self._asked[name]], timeout=0)[0]:
                self.known[name] = ()
                with suppress(ray.exceptions.RayError):
                    self.known[name] = ray.get(self._asked.pop(name))


def _sizes() -> tuple[int, ...]:
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True).stdout
        return sizes_of(said)
    except (OSError, subprocess.SubprocessError, ValueError):
        return ()


def sizes_of(said: str) -> tuple[int, ...]:
    """Bytes of each GPU, from nvidia-smi's MiB. Raises ValueError for anything else."""
    return tuple(int(line) * 2**20 for line in said.split())
