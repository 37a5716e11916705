"""TensorRT-LLM for tests: the real one where it is installed, else a fake of its LLM API."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

FAKES = Path(__file__).parent / "fakes"
REAL = find_spec("tensorrt_llm") is not None


def environment() -> dict[str, str]:
    """What a replica's process needs to import it, and all that this one imports."""
    paths = (str(FAKES), os.environ.get("PYTHONPATH"))
    return {} if REAL else {"PYTHONPATH": os.pathsep.join(path for path in paths if path)}


def importable() -> None:
    """Makes it importable in this process."""
    if not REAL and str(FAKES) not in sys.path:
        sys.path.append(str(FAKES))
