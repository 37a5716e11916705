"""What is used of TensorRT-LLM is what it has: by the record of it, and where it is installed, by
the package itself."""

from __future__ import annotations

import inspect
import json
from typing import Any

import pytest

from llm_serve.backends.tensorrt_llm import USED, missing_of
from tests.support.tensorrt import FAKES, REAL

RECORD: dict[str, Any] = json.loads((FAKES / "tensorrt_llm" / "manifest.json").read_text())
pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("name", USED)
def test_only_what_is_recorded_is_used(name: str) -> None:
    assert set(USED[name]) <= set(RECORD[name])


def test_the_record_says_where_it_was_read() -> None:
    assert RECORD["package"].startswith("tensorrt_llm ")
    assert all(len(commit) == 40 for commit in RECORD["read_from"].values())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_package_has_what_is_used() -> None:
    """The fake's signatures are those of the record; the real one's may have more."""
    import tensorrt_llm

    assert missing_of(tensorrt_llm) == []
    for name, owner in (
        ("LLM.__init__", tensorrt_llm.LLM.__init__),
        ("LLM.generate_async", tensorrt_llm.LLM.generate_async),
        ("SamplingParams", tensorrt_llm.SamplingParams),
        ("GuidedDecodingParams", tensorrt_llm.llmapi.GuidedDecodingParams),
    ):
        known = {*inspect.signature(owner).parameters} - {"self", "kwargs"}
        assert known >= set(RECORD[name]) if REAL else known == set(RECORD[name])
    assert set(RECORD["TorchLlmArgs"]) <= set(tensorrt_llm.llmapi.TorchLlmArgs.model_fields)
