"""Which of the allowlisted models a request is for."""

from __future__ import annotations

from typing import Any

from llm_serve.config import Config, Kind, ModelConfig
from llm_serve.errors import InvalidRequest, UnknownModel, UnsupportedParameter

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


def model_of(fields: Fields, config: Config, kind: Kind | None = "text") -> ModelConfig:
    """The model that a request names; `kind` is what it must be, None for any. One whose kind only
    its files can tell may be of another: its replica refuses then. Raises UnknownModel,
    InvalidRequest."""
    name = fields.get("model")
    if name is not None and not isinstance(name, str):
        raise InvalidRequest("model: Input should be a valid string.", param="model")
    model = find_model(name, config)
    known = model.known_kind
    if kind is not None and known is not None and known != kind:
        others = [m.id for m in config.models[:20] if m.known_kind in (kind, None)]
        may = f" These may: {', '.join(others)}." if others else ""
        raise UnsupportedParameter(_WRONG_KIND[kind].format(model.id) + may, param="model")
    return model


_WRONG_KIND: dict[Kind, str] = {
    "text": "{0} gives embeddings and generates no text; use /v1/embeddings, or name a model that "
    "generates.",
    "embedding": "{0} generates text and gives no embeddings; name an embedding model, or "
    "configure this one with `kind: embedding`.",
}
"""What is wrong with a model that is not of the kind."""
