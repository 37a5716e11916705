"""Whether a model generates text, gives embeddings or ranks, as its files say it. Reads no
weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llm_serve.config import Config, Kind, ModelConfig
from llm_serve.models import find
from llm_serve.models.model_folder import MODULES

_GENERATES = ("ForCausalLM", "LMHeadModel")
_CLASSIFIES = "ForSequenceClassification"
"""With one class only, it says how well two texts go together."""
_RANKER = "CrossEncoder"
"""What sentence-transformers calls such a model."""
_ENCODES = ("Model", "ForMaskedLM")
"""Ends of the names of architectures: a model without a head, or with the one that it was trained
by, is of use for what its layers make of a text."""


def kind_of(folder: Path) -> Kind:
    """The kind of the model in a folder. What is neither counts as text: its load says why it
    cannot be served."""
    if (folder / MODULES).is_file():
        ranks = _read(folder / "config_sentence_transformers.json").get("model_type") == _RANKER
        return "rerank" if ranks else "embedding"
    config = _read(folder / "config.json")
    names = config.get("architectures")
    if not isinstance(names, list) or any(str(name).endswith(_GENERATES) for name in names):
        return "text"
    labels = config.get("id2label")
    if any(str(name).endswith(_CLASSIFIES) for name in names) and labels and len(labels) == 1:
        return "rerank"
    return "embedding" if any(str(name).endswith(_ENCODES) for name in names) else "text"


def with_kinds(config: Config) -> Config:
    """The configuration with the kind of each model that is here already, for the ingress: it
    refuses by it what the model cannot do, before a load. Only looks, as `find` does."""
    known = [_with_kind(model) for model in config.models]
    return config.model_copy(update={"models": tuple(known)})


def _with_kind(model: ModelConfig) -> ModelConfig:
    if model.known_kind is not None or model.backend != "transformers":
        return model  # vLLM decides for itself
    folder = find(model)
    return model if folder is None else model.model_copy(update={"kind": kind_of(folder)})


def _read(file: Path) -> dict[str, Any]:
    try:
        data = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}
