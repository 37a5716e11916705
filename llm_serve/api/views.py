"""What `/healthz` and `/v1/models` show of a status."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from llm_serve.backends import CAPABILITIES
from llm_serve.config import Config, ModelConfig
from llm_serve.status import ModelStatus, ServerStatus


def health(config: Config, status: ServerStatus) -> dict[str, Any]:
    """The guide's health object. `model_id` is the default model, `loaded` is about it."""
    model = config.default_model
    shown = status.model(model.id)
    view: dict[str, Any] = {
        "status": status.state,
        "loaded": shown is not None and shown.loaded,
        "model_id": model.id,
        "inference_backend": model.backend,
        "queue_depth": sum(m.queued for m in status.models),
        "running": sum(m.running for m in status.models),
        "switch_in_progress": status.switch_target is not None,
        "switch_target_model": status.switch_target,
    }
    loading = next((m for m in status.models if m.state == "loading"), None)
    if loading is not None:
        view["load_model"] = loading.id
        view["load_stage"] = loading.stage
        view["load_progress"] = loading.progress
    failed = [m.id for m in status.models if m.state == "failed"]
    if failed:
        view["failed_models"] = failed
    return view


def model_list(config: Config, status: ServerStatus) -> dict[str, Any]:
    """OpenAI's list object over the allowlist."""
    return {"object": "list", "data": [_model(config, m, status) for m in config.models]}


def one_model(config: Config, status: ServerStatus, model_id: str) -> dict[str, Any] | None:
    """OpenAI's model object, or None for a model that is not allowlisted."""
    model = config.model(model_id)
    return None if model is None else _model(config, model, status)


def _model(config: Config, model: ModelConfig, status: ServerStatus) -> dict[str, Any]:
    now = status.model(model.id) or ModelStatus(model.id, model.backend)
    view: dict[str, Any] = {
        "id": model.id,
        "object": "model",
        "created": status.created,
        "owned_by": "llm-serve",
        "status": now.state,
        "loaded": now.loaded,
        "default": model.id == config.default_model.id,
        "backend": model.backend,
        "capabilities": asdict(CAPABILITIES[model.backend]),
        "limits": {"max_running": model.max_running, "max_queued": model.max_queued},
        "running": now.running,
        "queued": now.queued,
    }
    if now.info is not None:
        view["context_length"] = now.info.context_length
        view["footprint_bytes"] = now.info.footprint_bytes
        view["dtype"] = now.info.dtype
        view["device"] = now.info.device
        view["engine_version"] = now.info.engine_version
    if now.state == "loading":
        view["load_stage"] = now.stage
        view["load_progress"] = now.progress
    if now.error is not None:
        view["last_error"] = now.error
    return view
