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


def model_of(fields: Fields, config: Config, kinds: tuple[Kind, ...] = ("text",)) -> ModelConfig:
    """The model that a request names, which must be of one of `kinds`. One whose kind only its
    files can tell may be of another: its replica refuses then. Raises UnknownModel,
    InvalidRequest."""
    name = fields.get("model")
    if name is not None and not isinstance(name, str):
        raise InvalidRequest("model: Input should be a valid string.", param="model")
    model = find_model(name, config)
    known = model.known_kind
    if known is not None and known not in kinds:
        others = [m.id for m in config.models[:20] if m.known_kind in (*kinds, None)]
        named = f" ({', '.join(others)})" if others else ""
        added = ", or configure one with `kind: embedding`" if "embedding" in kinds else ""
        raise UnsupportedParameter(
            f"{model.id} {_DOES[known]}; here, name another model{named}{added}.", param="model"
        )
    return model


KINDS: tuple[Kind, ...] = ("text", "embedding", "rerank")
_DOES: dict[Kind, str] = {
    "text": "generates text, by /v1/chat/completions and the like",
    "embedding": "gives embeddings, by /v1/embeddings",
    "rerank": "ranks texts, by /v1/rerank",
}
