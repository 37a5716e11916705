"""From an `engine` section to vLLM's own argument classes, which say what is known and valid."""

from __future__ import annotations

import dataclasses
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_serve.backends import engine_keys
from llm_serve.config import VLLM_CPU_CACHE_BYTES
from llm_serve.errors import LoadFailed

if TYPE_CHECKING:
    from vllm import AsyncEngineArgs

OURS = {
    "model": "name the weights in `source`",
    "tokenizer": "the tokenizer comes with the weights",
    "served_model_name": "the model is served under its `id`",
    "revision": "name the revision in `source`",
    "lora_modules": "list them in `adapters`",
    "trust_remote_code": "code from a checkpoint is never run",
    "tool_server": "tools are run by the client, never by the server",
    "api_key": "keys are in `server.api_key_file`",
    "max_num_queued_reqs": "the queue is bounded by `max_queued`",
    "max_num_queued_tokens": "the queue is bounded by `max_queued`",
    "enable_log_requests": "prompts are not logged",
    "enable_log_outputs": "answers are not logged",
    "tokens_only": "every route is served",
    "enable_scale_out": "replicas are Ray Serve's",
}
"""Keys of vLLM's that this project decides, and where the person does it instead."""

NO_DOMAIN = ["none.invalid"]
"""Images are taken from `data:` URLs alone, unless domains are named: a URL in a request would make
the server fetch whatever it can reach."""


def engine_args(
    section: Mapping[str, Any], model_id: str, folder: Path, *, on_cpu: bool
) -> tuple[AsyncEngineArgs, dict[str, Any]]:
    """vLLM's engine arguments, and those of its server. Raises LoadFailed."""
    from vllm import AsyncEngineArgs
    from vllm.entrypoints.launchers.cli_args import BaseFrontendArgs

    check_keys(section, model_id)
    engine = {k: v for k, v in section.items() if k in _fields(AsyncEngineArgs)}
    server = {k: v for k, v in section.items() if k in _fields(BaseFrontendArgs)}
    if on_cpu:
        engine.setdefault("kv_cache_memory_bytes", VLLM_CPU_CACHE_BYTES)
    engine.setdefault("allowed_media_domains", NO_DOMAIN)
    if server.get("tool_call_parser"):
        server.setdefault("enable_auto_tool_choice", True)
    server.setdefault("enable_prompt_tokens_details", True)
    server.setdefault("exclude_tools_when_tool_choice_none", True)
    try:
        args = AsyncEngineArgs(
            **engine,
            model=str(folder),
            tokenizer=str(folder),
            served_model_name=[model_id],
            trust_remote_code=False,
            enable_log_requests=False,
        )
    except (TypeError, ValueError) as error:
        raise LoadFailed(f"{model_id}: engine: {first_line(error)}") from error
    return args, server


def server_args(server: Mapping[str, Any], args: AsyncEngineArgs, model_id: str) -> Namespace:
    """What vLLM's own server reads. `args` must have become a configuration before."""
    from vllm.entrypoints.launchers.cli_args import FrontendArgs

    try:
        frontend = FrontendArgs(**server)
    except (TypeError, ValueError) as error:
        raise LoadFailed(f"{model_id}: engine: {first_line(error)}") from error
    return Namespace(**{**vars(frontend), **vars(args)})


def check_keys(section: Mapping[str, Any], model_id: str) -> None:
    """Raises LoadFailed for a key that vLLM does not know or that is not the person's to set."""
    from vllm import AsyncEngineArgs
    from vllm.entrypoints.launchers.cli_args import BaseFrontendArgs

    known = _fields(AsyncEngineArgs) | _fields(BaseFrontendArgs)
    engine_keys.check_keys(section, known, OURS, model_id=model_id, engine="vLLM")


def first_line(error: Exception) -> str:
    """What a validation error says, without the stack, the input or a link."""
    errors = getattr(error, "errors", None)
    if callable(errors):
        first = errors()[0]
        where = ".".join(str(part) for part in first["loc"] if isinstance(part, str))
        return f"{where}: {first['msg']}" if where else str(first["msg"])
    return next(iter(str(error).splitlines()), type(error).__name__)


def _fields(cls: type) -> set[str]:
    return {f.name for f in dataclasses.fields(cls) if not f.name.startswith("_")}
