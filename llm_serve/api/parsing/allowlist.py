"""Which of the allowlisted models a request is for."""

from __future__ import annotations

from typing import Any

from llm_serve.config import Config, ModelConfig
from llm_serve.errors import InvalidRequest, UnknownModel

Fields = dict[str, Any]
"""The members of a body, not validated yet."""


def find_model(model_id: str | None, config: Config) -> ModelConfig:
    """The allowlisted model, the first one for None. Raises UnknownModel."""
    if model_id is None:
        return config.default_model
    model = config.model(model_id)
    if model is None:
        raise UnknownModel(unknown_model(model_id, config), param="model")
    return model


def unknown_model(model_id: str, config: Config) -> str:
    """The sentence about a model that is not allowlisted."""
    known = ", ".join(m.id for m in config.models[:20])
    return f"The model {model_id[:200]!r} is not served here. Served: {known}."


def model_of(fields: Fields, config: Config) -> ModelConfig:
    """The model that a request names. Raises UnknownModel, InvalidRequest."""
    name = fields.get("model")
    if name is not None and not isinstance(name, str):
        raise InvalidRequest("model: Input should be a valid string.", param="model")
    return find_model(name, config)
