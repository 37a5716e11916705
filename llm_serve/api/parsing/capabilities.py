"""What a model's backend cannot do is refused by name."""

from __future__ import annotations

from llm_serve.backends import CAPABILITIES
from llm_serve.config import ModelConfig
from llm_serve.errors import UnsupportedParameter


def need(model: ModelConfig, capability: str, parameter: str | None = None) -> None:
    """Raises UnsupportedParameter, about the field `parameter` (that of the capability's name where
    it is left out), if the model's backend lacks the capability."""
    if not getattr(CAPABILITIES[model.backend], capability):
        parameter = parameter or capability
        raise UnsupportedParameter(
            f"{parameter} is not supported by the {model.backend} backend of {model.id}; "
            f"leave it out. GET /v1/models/{model.id} lists what is.",
            param=parameter,
        )
