"""Configuration files for `llm-serve --config`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from deployments.schema import deploy_schema
from llm_serve.config import DEFAULT_HOST, Config


def write(file: Path, port: int, *models: dict[str, Any], **sections: Any) -> str:
    """The file's name, once it holds these models and sections of Config."""
    config = Config.model_validate({"models": list(models), **sections})
    file.write_text(yaml.safe_dump(deploy_schema(config, DEFAULT_HOST, port)))
    return str(file)
