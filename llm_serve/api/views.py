"""What `/healthz` and `/v1/models` show of a status."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from llm_serve.backends import UNTRIED, capabilities_of
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
        view["load_eta_seconds"] = loading.eta_s
    failed = [m.id for m in status.models if m.state == "failed"]
    if failed:
        view["failed_models"] = failed
    return view


def event(config: Config, before: ServerStatus | None, now: ServerStatus) -> dict[str, Any] | None:
    """What `GET /v1/events` says of a change: the server, and each model that changed; or None."""
    known = {} if before is None else {m.id: m for m in before.models}
    changed = [one_model(config, now, m.id) for m in now.models if known.get(m.id) != m]
    server = health(config, now)
    if not changed and before is not None and before.state == now.state:
        return None
    return {"object": "event", "server": server, "models": changed}


def model_list(config: Config, status: ServerStatus) -> dict[str, Any]:
    """OpenAI's list object over the allowlist."""
    ids = [i for m in config.models for i in (m.id, *(adapter.id for adapter in m.adapters))]
    return {"object": "list", "data": [one_model(config, status, model_id) for model_id in ids]}


def one_model(config: Config, status: ServerStatus, model_id: str) -> dict[str, Any] | None:
    """OpenAI's model object, or None for a model that is not allowlisted."""
    model = config.model(model_id)
    if model is None:
        return None
    view = _model(config, model, status)
    if model_id != model.id:  # an adapter is there when its model is
        view |= {"id": model_id, "parent": model.id, "default": False}
    return view


def _model(config: Config, model: ModelConfig, status: ServerStatus) -> dict[str, Any]:
    now = status.model(model.id) or ModelStatus(model.id)
    view: dict[str, Any] = {
        "id": model.id,
        "object": "model",
        "created": status.created,
        "owned_by": "llm-serve",
        "status": now.state,
        "loaded": now.loaded,
        "pinned": now.pinned,
        "replicas": now.replicas,
        "default": model.id == config.default_model.id,
        "backend": model.backend,
        "capabilities": asdict(capabilities_of(model, now.info.kind if now.info else None)),
        "limits": {"max_running": model.max_running, "max_queued": model.max_queued},
        "running": now.running,
        "queued": now.queued,
    }
    if model.backend in UNTRIED:
        view["untried"] = UNTRIED[model.backend]
    if now.info is not None:
        view["engine_details"] = now.info.details
        view["context_length"] = now.info.context_length
        view["footprint_bytes"] = now.info.footprint_bytes
        view["dtype"] = now.info.dtype
        view["device"] = now.info.device
        view["engine_version"] = now.info.engine_version
    if now.state == "loading":
        view["load_stage"] = now.stage
        view["load_progress"] = now.progress
    if now.state in ("loading", "queued"):
        view["position"] = now.position
        view["eta_seconds"] = now.eta_s
    if now.error is not None:
        view["last_error"] = now.error
        view["retry_in_seconds"] = math.ceil(now.cooldown_s * 10) / 10  # 0 is over
    return view
