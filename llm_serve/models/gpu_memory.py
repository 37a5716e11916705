"""Whether a GPU's memory is really free: that is later than when its last process has ended."""

from __future__ import annotations

import time

import torch

from llm_serve.errors import LoadFailed

WAIT_S = 30.0
_LOOK_S = 0.1


def wait_until_free(device: torch.device, needed_bytes: int, model_id: str) -> None:
    """Blocks until the driver says that `needed_bytes` are free on a CUDA device. Raises LoadFailed
    after WAIT_S: something else holds the memory."""
    deadline = time.monotonic() + WAIT_S
    while (free := torch.cuda.mem_get_info(device)[0]) < needed_bytes:
        if time.monotonic() > deadline:
            raise LoadFailed(
                f"{model_id} needs about {_gib(needed_bytes)} of GPU memory and {_gib(free)} are "
                "free: another process holds the rest. End it, or choose a smaller model."
            )
        time.sleep(_LOOK_S)


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
