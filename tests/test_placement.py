"""What Ray reserves for a replica: GPUs, placement groups, environment."""

from __future__ import annotations

from typing import Any

import pytest

from llm_serve.config import ModelConfig

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray's import of itself


def placement(**fields: Any) -> dict[str, Any]:
    from deployments.graph import _placement

    return _placement(ModelConfig.model_validate({"id": "m", **fields}))


def test_one_gpu_is_the_replicas_own() -> None:
    options = placement(backend="vllm", num_gpus=1)
    assert options["ray_actor_options"]["num_gpus"] == 1
    assert "placement_group_bundles" not in options


def test_parallel_engines_get_a_bundle_for_each_worker() -> None:
    """The replica's own process takes no GPU: its engine's workers do."""
    engine = {"tensor_parallel_size": 2, "pipeline_parallel_size": 2}
    model = ModelConfig.model_validate({"id": "m", "backend": "vllm", "engine": engine})
    assert model.engine.gpus == 4  # type: ignore[union-attr]
    options = placement(backend="vllm", engine=engine, num_gpus=4)
    assert options["ray_actor_options"]["num_gpus"] == 0
    assert options["placement_group_bundles"] == [{"CPU": 0, "GPU": 1}] * 4
    assert options["placement_group_strategy"] == "PACK"


def test_the_environment_reaches_the_engine() -> None:
    options = placement(backend="vllm", env={"VLLM_USE_V1": "1"})
    assert options["ray_actor_options"]["runtime_env"] == {"env_vars": {"VLLM_USE_V1": "1"}}
    assert "runtime_env" not in placement(backend="vllm")["ray_actor_options"]
