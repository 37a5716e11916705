"""What is wrong with the configuration in a RayService."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deployments.machine.config_file import read_serve_file
from deployments.machine.environment import applied, serve_env
from llm_serve.config.yaml_file import BadFile
from tests.k8s.rendered import Rendered


def check_problems(rendered: Rendered, folder: Path) -> Iterator[str]:
    """As `llm-serve check` says it where the pod's keys are; `folder` gets both files."""
    keys, file = folder / "keys", folder / "serve_config.yaml"
    keys.write_text("a-key\n")
    text = rendered.spec["serveConfigV2"]
    file.write_text(
        text.replace(str(rendered.application["args"]["server"]["api_key_file"]), str(keys))
    )
    try:
        read_serve_file(file)
    except BadFile as error:
        yield from (problem.message for problem in error.problems)


def lost(rendered: Rendered) -> list[str]:
    """Keys of the file that Ray Serve drops in silence, or changes."""
    with applied({}, serve_env()):  # Ray reads its environment once, when it is first imported
        from ray.serve.schema import ServeDeploySchema
    kept = ServeDeploySchema.model_validate(rendered.serve).model_dump(exclude_unset=True)
    return list(_differences(rendered.serve, kept, ""))


def _differences(given: Any, kept: Any, at: str) -> Iterator[str]:
    if isinstance(given, dict) and isinstance(kept, dict):
        for key, value in given.items():
            yield from _differences(value, kept.get(key), f"{at}.{key}")
    elif isinstance(given, list) and isinstance(kept, list | tuple) and len(given) == len(kept):
        for index, (one, other) in enumerate(zip(given, kept, strict=True)):
            yield from _differences(one, other, f"{at}[{index}]")
    elif given != kept:
        yield f"{at}: {given!r} becomes {kept!r}"
