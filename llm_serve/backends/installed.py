"""Whether the engine of a backend is installed, told without importing it: that takes seconds."""

from __future__ import annotations

from importlib.util import find_spec

from llm_serve.config import ModelConfig
from llm_serve.errors import LoadFailed

NEEDED: dict[str, tuple[str, ...]] = {
    "echo": (),
    "transformers": ("safetensors", "torch", "transformers"),
    "vllm": ("vllm",),
    "tensorrt_llm": ("tensorrt_llm",),
}
"""The packages without which a backend cannot begin."""
REMEDY = {
    "transformers": (
        "The transformers backend is not installed: pip install 'llm-serve[transformers]'."
    ),
    "vllm": (
        "vLLM is not installed: pip install 'llm-serve[vllm]' for NVIDIA GPUs, or run "
        "`make install-vllm` for a CPU."
    ),
    "tensorrt_llm": (
        "TensorRT-LLM is not installed, or not for this machine. It needs an NVIDIA GPU: take "
        "NVIDIA's container nvcr.io/nvidia/tensorrt-llm/release, or pip install "
        "'tensorrt_llm>=1.2' from NVIDIA's index, then llm-serve beside it."
    ),
}


def check_installed(model: ModelConfig) -> None:
    """Raises LoadFailed with the remedy, where the model's engine is not there. A model whose `env`
    has a PYTHONPATH of its own finds it elsewhere, perhaps."""
    if "PYTHONPATH" in model.env:
        return
    if not all(_is_there(package) for package in NEEDED[model.backend]):
        raise LoadFailed(f"{model.id}: {REMEDY[model.backend]}")


def _is_there(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ValueError:  # it was imported, and has no specification
        return False
