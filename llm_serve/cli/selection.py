"""What to serve: a configuration, changed by the flags `--model` and `--backend`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from llm_serve.config import Config, ModelConfig
from llm_serve.config.explain import explain
from llm_serve.models import parse


class BadChoice(Exception):
    """The flags make no sense; the message is a sentence with the remedy."""


def choose_models(config: Config, model: str | None, backend: str | None) -> Config:
    """`config`, or with a flag given, the same with that one model only."""
    if model is None and backend is None:
        return config
    name = model or config.default_model.id
    known = config.model(name)
    values: dict[str, Any] = known.model_dump(exclude_unset=True) if known else _described(name)
    if backend is not None and backend != values.get("backend", "transformers"):
        values.pop("engine", None)  # the settings of another engine
        values["backend"] = backend
    try:
        chosen = ModelConfig.model_validate(values)
        if chosen.backend != "echo":
            parse(chosen)
    except ValidationError as error:
        raise BadChoice(_first(error, name)) from None
    except ValueError as error:
        raise BadChoice(str(error)) from None
    return config.model_copy(update={"models": (chosen,)})


def _described(name: str) -> dict[str, Any]:
    """The model that `name` describes: a folder, a wheel, or a hub id."""
    if name.startswith("wheel:"):
        return {"id": Path(name).stem, "source": name}
    if name.startswith("hub:"):
        return {"id": name.removeprefix("hub:")}
    folder = Path(name).expanduser()
    if name.startswith((".", "~", "/")) or folder.is_dir():
        return {"id": folder.absolute().name, "source": str(folder.absolute())}
    return {"id": name}


def _first(error: ValidationError, name: str) -> str:
    loc, message = next(explain(error, ModelConfig))
    if loc == ("id",):
        return f"{name!r} is no model id; write org/name as on the hub, or the path of a folder."
    if loc == ("backend",):
        return f"--{message}."
    return f"{message}."
