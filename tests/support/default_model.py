"""The small real model as an entry of a configuration, for servers of tests."""

from __future__ import annotations

from typing import Any

from llm_serve.config import default_config


def entry(**fields: Any) -> dict[str, Any]:
    """In transformers, in float32 on the CPU, unless `fields` say otherwise."""
    model = default_config().default_model.model_dump(mode="json", exclude_unset=True)
    # The guide's examples set no limit, and the model sometimes talks on to the default one.
    model["defaults"] = {**model["defaults"], "max_tokens": 64}
    model["engine"] = {"dtype": "float32", "device": "cpu"}
    return {**model, **fields}
