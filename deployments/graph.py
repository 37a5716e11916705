"""The Ray Serve application of a configuration: `deployments.graph:build`.

No `from __future__ import annotations` here: Ray Serve reads the annotation of `build` as it stands
to turn the YAML's `args` into a Config, and a string is not a class.
"""

import ray
from ray import serve
from ray.serve.handle import DeploymentHandle

from deployments.director import Director
from deployments.ingress import Ingress, read_keys
from deployments.model import Model
from llm_serve.config import Config, ModelConfig, TransformersEngine, deployment_name

_DRAIN_SLACK_S = 10.0
_MANY = 100_000
"""No limit of ours: the ingress admits per model, and the director only answers watchers."""


def build(config: Config) -> serve.Application:
    """One ingress, one director, one deployment a model."""
    read_keys(config.server.api_key_file)
    director = serve.deployment(
        Director,
        name="Director",
        num_replicas=1,
        max_ongoing_requests=_MANY,
        ray_actor_options={"num_cpus": 0},
        logging_config={"enable_access_log": False},
    ).bind()
    models = {m.id: _model(m, config, director) for m in config.models}
    return serve.deployment(
        Ingress,
        name="Ingress",
        num_replicas=1,
        max_ongoing_requests=_MANY,
        ray_actor_options={"num_cpus": 0},
    ).bind(config, director, models)


def _model(model: ModelConfig, config: Config, director: DeploymentHandle) -> serve.Application:
    return serve.deployment(
        Model,
        name=deployment_name(model.id),
        num_replicas=1,
        max_ongoing_requests=model.max_running,
        max_queued_requests=model.max_running + model.max_queued,
        # A stream in flight must end whole before its replica goes.
        graceful_shutdown_timeout_s=config.server.inference_timeout_s + _DRAIN_SLACK_S,
        graceful_shutdown_wait_loop_s=0.1,
        health_check_period_s=2,
        health_check_timeout_s=30,
        ray_actor_options={"num_cpus": 0, "num_gpus": _gpus(model)},
    ).bind(model, director)


def _gpus(model: ModelConfig) -> float:
    """GPUs of one replica: as configured, else one where the cluster has any."""
    if model.num_gpus is not None:
        return model.num_gpus
    if not isinstance(model.engine, TransformersEngine) or model.engine.device in ("cpu", "mps"):
        return 0
    return 1 if ray.is_initialized() and ray.cluster_resources().get("GPU", 0) >= 1 else 0
