"""Keeps what loads really took, in seconds and bytes, by model and how it is run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from llm_serve.config import ModelConfig
from llm_serve.models.cache import cache_root
from llm_serve.residency import Measurement

_SETTINGS = {
    *("id", "backend", "source", "engine", "max_running", "num_gpus", "env", "adapters", "kind"),
}


class Measurements:
    """A small JSON file in the cache folder. One that cannot be read or written is done without:
    it saves estimates, nothing more."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file or cache_root() / "measured.json"

    def known(self, models: Iterable[ModelConfig]) -> dict[str, Measurement]:
        """What is known of each model that was loaded here before with the same settings."""
        kept = self._read()
        found = {}
        for model in models:
            entry = kept.get(_key(model))
            if entry is not None:
                found[model.id] = Measurement(int(entry["footprint"]), float(entry["load_s"]))
        return found

    def keep(self, model: ModelConfig, footprint: int, load_s: float) -> None:
        kept = self._read()
        kept[_key(model)] = {"model": model.id, "footprint": footprint, "load_s": load_s}
        with suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            new = self._file.with_suffix(".new")
            new.write_text(json.dumps(kept, indent=1))
            new.replace(self._file)

    def _read(self) -> dict[str, dict[str, float | str]]:
        try:
            kept = json.loads(self._file.read_text())
            return kept if isinstance(kept, dict) else {}
        except (OSError, ValueError):
            return {}


def _key(model: ModelConfig) -> str:
    """Changes with all that changes time or memory of a load."""
    settings = model.model_dump_json(include=_SETTINGS)
    return hashlib.sha256(settings.encode()).hexdigest()[:32]
