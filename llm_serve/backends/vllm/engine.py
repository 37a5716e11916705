"""What of vllm takes seconds to import, imported quietly: when a model is loaded, or in a worker
that is kept warm for the next one. Raises ImportError where vLLM is not installed.
"""

from __future__ import annotations

import os

QUIET = {
    "VLLM_NO_USAGE_STATS": "1",  # nothing is reported to anyone
    "DO_NOT_TRACK": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",  # a fork of a process with threads may hang
}
"""Set before the import, unless the person has set them."""
for _name, _value in QUIET.items():
    os.environ.setdefault(_name, _value)

from vllm.entrypoints.launchers.api_server.app_state import init_app_state  # noqa: E402
from vllm.entrypoints.launchers.app import build_app  # noqa: E402
from vllm.platforms import current_platform  # noqa: E402
from vllm.usage.usage_lib import UsageContext  # noqa: E402
from vllm.v1.engine.async_llm import AsyncLLM  # noqa: E402

__all__ = ["AsyncLLM", "UsageContext", "build_app", "current_platform", "init_app_state"]
