"""Where the transformers backend runs on this machine, and in which type."""

from __future__ import annotations

import torch

from llm_serve.config import TransformersEngine
from llm_serve.errors import LoadFailed


def name_of(engine: TransformersEngine) -> str:
    """The type's name, as a configuration would give it. Raises ValueError where the device that is
    asked for is not there."""
    if engine.dtype != "auto":
        return engine.dtype
    try:
        return str(pick_dtype(engine.dtype, pick_device(engine.device))).removeprefix("torch.")
    except LoadFailed as error:
        raise ValueError(error.detail) from None


def pick_device(wanted: str) -> torch.device:
    """CUDA, then MPS, then CPU, unless one is asked for."""
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if wanted == "auto":
        wanted = next(name for name, available in there.items() if available)
    if not there[wanted]:
        raise LoadFailed(f"engine.device is {wanted}, which this machine does not have.")
    return torch.device(wanted, 0) if wanted == "cuda" else torch.device(wanted)


def pick_dtype(wanted: str, device: torch.device) -> torch.dtype:
    """The narrowest type in which the device is fast and the range is wide enough."""
    if wanted != "auto":
        dtype = getattr(torch, wanted)
        assert isinstance(dtype, torch.dtype)
        return dtype
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if device.type == "mps":
        return torch.float16
    capabilities = torch.cpu.get_capabilities()
    fast = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
    return torch.bfloat16 if fast or capabilities.get("bf16") else torch.float32
