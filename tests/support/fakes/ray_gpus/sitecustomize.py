"""On PYTHONPATH: vLLM built for CPUs takes what Ray's books call GPUs for its devices.

So its Ray executor, which is for accelerators, runs its workers on CPUs, in the bundles of a
placement group.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any


class _Patched:
    """The loader of `vllm.platforms.cpu`, and then the change."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        module.CpuPlatform.ray_device_key = "GPU"


class _Finder(MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path) if name == "vllm.platforms.cpu" else None
        if spec is not None:
            spec.loader = _Patched(spec.loader)  # type: ignore[assignment]
        return spec


sys.meta_path.insert(0, _Finder())
