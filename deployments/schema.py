"""Our configuration as Ray Serve's: the form of `serve_config.yaml`, for `serve run` and for us."""

from __future__ import annotations

from typing import Any

from llm_serve.config import Config

APPLICATION = "llm-serve"
IMPORT_PATH = "deployments.graph:build"


def deploy_schema(config: Config, host: str, port: int) -> dict[str, Any]:
    """What `serve run` reads from the file for this configuration."""
    return {
        "http_options": {"host": host, "port": port},
        "applications": [
            {
                "name": APPLICATION,
                "route_prefix": "/",
                "import_path": IMPORT_PATH,
                "args": config.model_dump(mode="json", exclude_unset=True),
            }
        ],
    }
