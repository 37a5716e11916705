"""Our configuration as Ray Serve's: the form of `serve_config.yaml`, for `serve run` and for us."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_serve.config import Config

APPLICATION = "llm-serve"
IMPORT_PATH = "deployments.graph:build"
POLICY = "deployments.autoscaling:ResidencyPolicy"


def deploy_schema(
    config: Config, host: str, port: int, base: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What `serve run` reads from a file for this configuration; the rest as in `base`."""
    base = base or {"applications": [{"name": APPLICATION, "route_prefix": "/"}]}
    options = {**(base.get("http_options") or {}), "host": host, "port": port}
    args = config.model_dump(mode="json", exclude_unset=True)
    ours = {
        **base["applications"][our_application(base) or 0],
        "import_path": IMPORT_PATH,
        "autoscaling_policy": {"policy_function": POLICY},
        "args": args,
    }
    return {
        **base,
        "http_options": options,
        "applications": [ours],
    }


def our_application(schema: Any) -> int | None:
    """Which application of a file is this server."""
    applications = schema.get("applications") if isinstance(schema, dict) else None
    for index, application in enumerate(applications if isinstance(applications, list) else []):
        if isinstance(application, dict) and application.get("import_path") == IMPORT_PATH:
            return index
    return None
