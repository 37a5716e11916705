"""Hands an application to Serve as `serve run` does, from a schema.

Ray's public `serve.run` takes no `autoscaling_policy` for a whole application. So Serve is started
by its public call, and its controller is given the schema, as Ray's own command does it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deployments.ray_patches.actors import CONTROLLER


def deploy(schema: Mapping[str, Any]) -> None:
    """Starts Serve in the Ray of this process. Returns before the application runs."""
    import ray
    from ray import serve
    from ray.serve.schema import ServeDeploySchema

    checked = ServeDeploySchema.model_validate(schema)
    serve.start(
        http_options=checked.http_options.model_dump(),
        proxy_location=checked.proxy_location,
        controller_options=checked.controller_options,
    )
    controller = ray.get_actor(CONTROLLER, namespace="serve")
    ray.get(controller.apply_config.remote(checked))
