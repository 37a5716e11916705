"""Hands an application to Serve as `serve run` does, from a schema.

Ray's public `serve.run` takes no `autoscaling_policy` for a whole application.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def deploy(schema: Mapping[str, Any]) -> None:
    """Starts Serve in the Ray of this process. Returns before the application runs."""
    from ray.serve._private.api import serve_start
    from ray.serve.schema import ServeDeploySchema

    checked = ServeDeploySchema.model_validate(schema)
    client = serve_start(
        http_options=checked.http_options.model_dump(),
        proxy_location=checked.proxy_location,
        controller_options=checked.controller_options,
    )
    client.deploy_apps(checked)
