"""The Ray Serve application of a configuration: `deployments.graph:build`.

No `from __future__ import annotations` here: Ray Serve reads the annotation of `build` as it stands
to turn the YAML's `args` into a Config, and a string is not a class.
"""

from typing import Any

from ray import serve
from ray.serve.config import AutoscalingConfig

from deployments.app.ingress import Ingress
from deployments.app.names import INGRESS, deployment_of
from deployments.app.replica import Replica
from deployments.cluster.nodes import with_gpus
from llm_serve.config import Config, ModelConfig, VllmEngine
from llm_serve.config.api_keys import read_keys

DRAIN_SLACK_S = 10.0
HEALTH_PERIOD_S = 2
"""A replica that died is noticed and replaced within this; Ray's default is 10."""
_MANY = 100_000
"""No limit of ours: the ingress admits per model."""


def build(config: Config) -> serve.Application:
    """One ingress and one deployment a model, at zero replicas until the director grants more."""
    read_keys(config.server.api_key_file)
    config = with_gpus(config)
    models = {m.id: _model(m, config) for m in config.models}
    return serve.deployment(
        Ingress,
        name=INGRESS,
        num_replicas=config.server.ingress_replicas,
        health_check_period_s=HEALTH_PERIOD_S,
        # What was held, and then streams, must end whole before its ingress goes.
        graceful_shutdown_timeout_s=config.longest_request_s + DRAIN_SLACK_S,
        graceful_shutdown_wait_loop_s=0.1,
        max_ongoing_requests=_MANY,
        ray_actor_options={"num_cpus": 0},
    ).bind(config, models)


def _model(model: ModelConfig, config: Config) -> serve.Application:
    model, placement = _placed(model)
    return serve.deployment(
        Replica,
        name=deployment_of(model.id),
        max_ongoing_requests=model.max_running,
        # Of each ingress's own queue: above what the ingresses admit, so that it never refuses.
        max_queued_requests=model.max_replicas * model.max_running + model.max_queued,
        # A stream in flight must end whole before its replica goes.
        graceful_shutdown_timeout_s=config.server.inference_timeout_s + DRAIN_SLACK_S,
        graceful_shutdown_wait_loop_s=0.02,
        health_check_period_s=HEALTH_PERIOD_S,
        health_check_timeout_s=30,
        # The policy decides, so nothing may be delayed on top of it.
        autoscaling_config=AutoscalingConfig(
            min_replicas=0,
            initial_replicas=0,
            max_replicas=model.max_replicas,
            target_ongoing_requests=max(1, model.max_running * 3 // 4),
            upscale_delay_s=0,
            downscale_delay_s=0,
            downscale_to_zero_delay_s=0,
        ),
        **placement,
    ).bind(model)


def _placed(model: ModelConfig) -> tuple[ModelConfig, dict[str, Any]]:
    """The model as its replica gets it, and what Ray reserves for one.

    A parallel vLLM engine has a placement group, a GPU a bundle. The replica's own process takes
    none of them: vLLM's Ray executor starts a worker on each. All are on one node, as the residency
    scheduler plans it. Any other engine finds the GPUs of its replica in CUDA_VISIBLE_DEVICES.
    """
    gpus = model.num_gpus or 0
    actor: dict[str, Any] = {"num_cpus": 0, "num_gpus": gpus}
    if model.env:
        actor["runtime_env"] = {"env_vars": dict(model.env)}
    arguments: dict[str, Any] = {}
    if isinstance(model.engine, VllmEngine) and model.engine.gpus == gpus > 1:
        # Left to itself vLLM counts the GPUs that the replica's process sees, maybe too few.
        arguments = {"distributed_executor_backend": "ray", **model.engine.arguments}
    if arguments.get("distributed_executor_backend") != "ray":
        return model, {"ray_actor_options": actor}
    actor["num_gpus"] = 0
    return model.model_copy(update={"engine": VllmEngine(**arguments)}), {
        "ray_actor_options": actor,
        "placement_group_bundles": [{"CPU": 0, "GPU": 1} for _ in range(int(gpus))],
        "placement_group_strategy": "STRICT_PACK",
    }
