"""Why vLLM's engine did not start: its processes log the reason, and their parent learns only that
they ended."""

from __future__ import annotations

import json
import re
import tempfile
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vllm.config import VllmConfig

_RAISED = re.compile(r"^[A-Za-z_][\w.]*(?:Error|Exception|Interrupt): (?P<said>.+)$", re.MULTILINE)
_MOST = 600


class Reasons:
    """A file for the errors of the processes that are started with `config`.

    None is kept where the person has a logging configuration of their own for vLLM.
    """

    def __init__(self, config: VllmConfig) -> None:
        from vllm.logger import DEFAULT_LOGGING_CONFIG

        self._folder = tempfile.TemporaryDirectory(prefix="llm-serve-vllm-")
        self._kept = Path(self._folder.name) / "errors"
        if config.logging_config.pylogging_config_file is None:
            logging = deepcopy(DEFAULT_LOGGING_CONFIG)
            logging["handlers"]["errors"] = {
                "class": "logging.FileHandler",
                "filename": str(self._kept),
                "level": "ERROR",
                "delay": True,
            }
            logging["loggers"]["vllm"]["handlers"].append("errors")
            file = Path(self._folder.name) / "logging.json"
            file.write_text(json.dumps(logging))
            config.logging_config = replace(config.logging_config, pylogging_config_file=str(file))

    def first(self) -> str | None:
        """What the first exception said; None where none was logged."""
        try:
            found = _RAISED.search(self._kept.read_text(errors="replace"))
        except OSError:
            return None
        return found["said"][:_MOST] if found else None

    def close(self) -> None:
        self._folder.cleanup()
