"""The tree itself: what a copy of it knows and checks."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from llm_serve.cli.selection import choose_models
from llm_serve.config import Config, ModelConfig, VllmEngine


def config(*ids: str) -> Config:
    return Config(models=tuple(ModelConfig(id=one, backend="echo") for one in ids))


def test_a_chosen_model_is_the_only_one_that_is_known() -> None:
    asked = config("a", "b")
    assert asked.model("a") is not None  # what was looked up once is remembered
    chosen = choose_models(asked, "b", None)
    assert chosen.model("a") is None
    assert chosen.model("b") == asked.model("b")
    assert choose_models(asked, "hub:new/one", None).model("new/one") is not None


def test_a_copy_is_checked() -> None:
    twice = config("a", "b").models[0]
    with pytest.raises(ValidationError, match="stands twice"):
        config("a").model_copy(update={"models": (twice, twice)})
    with pytest.raises(ValidationError):
        twice.model_copy(update={"max_runing": 1})


@pytest.mark.parametrize("deep", [False, True])
def test_a_copy_sets_what_the_original_set(deep: bool) -> None:
    section: dict[str, Any] = {"max_model_len": 512, "hf_overrides": {"a": 1}}
    model = ModelConfig.model_validate({"id": "a", "backend": "vllm", "engine": section})
    copy = model.model_copy(update={"max_queued": 3}, deep=deep)
    assert copy.model_dump(exclude_unset=True) == {
        **model.model_dump(exclude_unset=True),
        "max_queued": 3,
    }
    assert copy.engine == VllmEngine(**section)
    assert copy.engine.model_copy(deep=deep) == copy.engine
