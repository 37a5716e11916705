"""From the configuration to a residency scheduler."""

from __future__ import annotations

import math
from collections.abc import Mapping

from llm_serve.config import Config, ModelConfig
from llm_serve.models.footprint import estimate
from llm_serve.progress import ModelInfo
from llm_serve.residency import Knobs, Measurement, ModelSpec, Scheduler

_DRAIN_SLACK_S = 30.0
"""Above Ray's own graceful shutdown timeout, which is above the inference timeout."""


def scheduler_for(
    config: Config,
    bins: Mapping[str, int],
    known: Mapping[str, Measurement],
    infos: Mapping[str, ModelInfo],
    counts_from: int,
) -> Scheduler:
    """The scheduler of a server. `bins` come from `nodes.capacity`, what is `known` and the `infos`
    from earlier loads; numbers begin at `counts_from`."""
    residency = config.residency
    return Scheduler(
        [_spec(model) for model in config.models],
        bins,
        Knobs(
            max_resident=residency.max_resident,
            min_residency_s=residency.min_residency_s,
            max_wait_s=residency.max_wait_s,
            keep_alive_s=residency.keep_alive_s,
            load_stall_s=residency.load_stall_s,
            max_pending_switches=residency.max_pending_switches,
            drain_timeout_s=config.server.inference_timeout_s + _DRAIN_SLACK_S,
        ),
        known=known,
        infos=infos,
        counts_from=counts_from,
    )


def _spec(model: ModelConfig) -> ModelSpec:
    """A replica with GPUs takes them, one bin each or a part of one; else the memory of its node.

    The host memory of a replica that has GPUs is not counted."""
    gpus = model.num_gpus or 0
    declared = model.footprint_gb
    return ModelSpec(
        model=model.id,
        footprint=estimate(model),
        declared=0 if declared is None else int(declared * 2**30),
        bins=max(1, math.ceil(gpus)),
        fraction=min(gpus, 1.0),
        max_replicas=model.max_replicas,
        pinned=model.pin,
        preload=model.preload,
        keep_alive_s=model.keep_alive_s,
    )
