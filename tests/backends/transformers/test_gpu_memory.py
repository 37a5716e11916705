"""A load waits for memory that the last model still holds, and no longer than that."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from llm_serve.errors import LoadFailed
from llm_serve.models import gpu_memory

GPU = torch.device("cuda", 0)


def driver(monkeypatch: pytest.MonkeyPatch, free: Iterator[int]) -> None:
    """What the driver says is free, look by look; there is no GPU on the test machines."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (next(free), 100))
    monkeypatch.setattr(gpu_memory, "_LOOK_S", 0.001)


def test_it_waits_until_the_memory_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter([10, 10, 60, 70])
    driver(monkeypatch, looks)
    gpu_memory.wait_until_free(GPU, 50, "m")
    assert list(looks) == [70]


def test_memory_that_stays_taken_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    driver(monkeypatch, iter(lambda: 2**30, None))
    monkeypatch.setattr(gpu_memory, "WAIT_S", 0.05)
    with pytest.raises(LoadFailed, match=r"needs about 3\.0 GiB .* 1\.0 GiB are free"):
        gpu_memory.wait_until_free(GPU, 3 * 2**30, "m")
