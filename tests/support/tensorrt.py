"""TensorRT-LLM for tests: the real one where it is installed, else a fake of its LLM API."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

FAKES = Path(__file__).parent / "fakes"
REAL = find_spec("tensorrt_llm") is not None


def environment() -> dict[str, str]:
    """What a replica's process needs to import it."""
    return {} if REAL else {"PYTHONPATH": str(FAKES)}


def importable() -> None:
    """Makes it importable in this process."""
    if not REAL and str(FAKES) not in sys.path:
        sys.path.append(str(FAKES))
