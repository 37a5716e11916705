"""A configuration file as Ray Serve takes it: the form of `serve_config.yaml`.

`llm-serve` reads such files (`deployments.machine.config_file`) and hands one to Serve
(`deployments.machine.launch`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ConfigDict, Field

from llm_serve.config import DEFAULT_HOST, DEFAULT_PORT, Config
from llm_serve.config.engines import FrozenModel

APPLICATION = "llm-serve"
IMPORT_PATH = "deployments.graph:build"
POLICY = "deployments.autoscaling:ResidencyPolicy"


class ServeFile(FrozenModel):
    """What a configuration file says once it was found sound: what to serve, and at which public
    address. `whole` is the file itself, whose settings for Ray Serve hold besides; empty where
    there is no file."""

    model_config = ConfigDict(ser_json_bytes="base64", ser_json_inf_nan="constants")

    config: Config
    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    whole: dict[str, Any] = Field(default_factory=dict)


def deploy_schema(
    config: Config, host: str, port: int, base: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The content of a file for `serve run` that has this configuration; the rest is as in
    `base`."""
    base = base or {"applications": [{"name": APPLICATION, "route_prefix": "/"}]}
    ours = {
        **base["applications"][our_application(base) or 0],
        "import_path": IMPORT_PATH,
        "autoscaling_policy": {"policy_function": POLICY},
        "args": config.model_dump(mode="json", exclude_unset=True),
    }
    return {
        **base,
        "http_options": {**(base.get("http_options") or {}), "host": host, "port": port},
        "applications": [ours],
    }


def our_application(schema: Any) -> int | None:
    """The index of the application of a file that is this server."""
    applications = schema.get("applications") if isinstance(schema, dict) else None
    for index, application in enumerate(applications if isinstance(applications, list) else []):
        if isinstance(application, dict) and application.get("import_path") == IMPORT_PATH:
            return index
    return None
