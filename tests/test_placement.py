"""What Ray reserves for a replica: GPUs, placement groups, environment."""

from __future__ import annotations

from typing import Any

import pytest

from llm_serve.config import Config, ModelConfig, VllmEngine

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray's import of itself


def placed(**fields: Any) -> tuple[ModelConfig, dict[str, Any]]:
    from deployments.graph import _placed

    return _placed(ModelConfig.model_validate({"id": "m", **fields}))


def placement(**fields: Any) -> dict[str, Any]:
    return placed(**fields)[1]


def test_one_gpu_is_the_replicas_own() -> None:
    options = placement(backend="vllm", num_gpus=1)
    assert options["ray_actor_options"]["num_gpus"] == 1
    assert "placement_group_bundles" not in options


def test_parallel_engines_get_a_bundle_for_each_worker() -> None:
    """The replica's own process takes no GPU: its engine's workers do, which Ray starts."""
    engine = {"tensor_parallel_size": 2, "pipeline_parallel_size": 2}
    model, options = placed(backend="vllm", engine=engine, num_gpus=4)
    assert isinstance(model.engine, VllmEngine)
    assert model.engine.gpus == 4
    assert model.engine.arguments == {**engine, "distributed_executor_backend": "ray"}
    assert options["ray_actor_options"]["num_gpus"] == 0
    assert options["placement_group_bundles"] == [{"CPU": 0, "GPU": 1}] * 4
    assert options["placement_group_strategy"] == "STRICT_PACK"


@pytest.mark.parametrize(
    "fields",
    [
        {"backend": "tensorrt_llm", "engine": {"tensor_parallel_size": 2}},
        {"backend": "transformers"},
        {"backend": "vllm", "engine": {"data_parallel_size": 2}},
        {
            "backend": "vllm",
            "engine": {"tensor_parallel_size": 2, "distributed_executor_backend": "mp"},
        },
    ],
)
def test_engines_that_start_their_own_workers_see_all_gpus(fields: dict[str, Any]) -> None:
    model, options = placed(**fields, num_gpus=2)
    assert options["ray_actor_options"]["num_gpus"] == 2
    assert "placement_group_bundles" not in options
    assert model == ModelConfig.model_validate({"id": "m", **fields, "num_gpus": 2})


def test_no_part_of_a_second_gpu() -> None:
    with pytest.raises(ValueError, match="num_gpus: above 1 it must be whole"):
        placement(backend="vllm", num_gpus=1.5)


def test_the_environment_reaches_the_engine() -> None:
    options = placement(backend="vllm", env={"VLLM_USE_V1": "1"})
    assert options["ray_actor_options"]["runtime_env"] == {"env_vars": {"VLLM_USE_V1": "1"}}
    assert "runtime_env" not in placement(backend="vllm")["ray_actor_options"]


# -- num_gpus: null ------------------------------------------------------------------------------


def resolved(monkeypatch: pytest.MonkeyPatch, gpus: int) -> list[float | None]:
    from deployments.cluster import nodes

    monkeypatch.setattr(nodes.ray, "is_initialized", lambda: True)
    monkeypatch.setattr(nodes.ray, "cluster_resources", lambda: {"GPU": gpus} if gpus else {})
    models = [
        {"id": "t"},
        {"id": "cpu", "engine": {"device": "cpu"}},
        {"id": "v", "backend": "vllm", "engine": {"tensor_parallel_size": 2}},
        {"id": "e", "backend": "echo"},
        {"id": "set", "num_gpus": 0.5},
    ]
    config = Config.model_validate({"models": models})
    filled = nodes.with_gpus(config)
    assert filled.model("t") is filled.models[0], "nothing of the original is carried along"
    assert nodes.with_gpus(filled) == filled
    return [m.num_gpus for m in filled.models]


def test_gpus_are_resolved_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolved(monkeypatch, gpus=4) == [1, 0, 2, 0, 0.5]
    assert resolved(monkeypatch, gpus=0) == [0, 0, 0, 0, 0.5]


def test_all_get_the_same_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ingress hands its configuration to the director, which must not ask the cluster again."""
    from deployments import graph
    from deployments.app.scheduler_setup import _spec
    from deployments.cluster import nodes

    monkeypatch.setattr(nodes.ray, "is_initialized", lambda: True)
    monkeypatch.setattr(nodes.ray, "cluster_resources", dict)
    config = Config.model_validate({"models": [{"id": "t", "footprint_gb": 1}]})
    app = graph.build(config)
    monkeypatch.setattr(nodes.ray, "cluster_resources", lambda: {"GPU": 8})
    told, models = app._bound_deployment.init_args
    assert told.models[0].num_gpus == 0
    deployed = models["t"]._bound_deployment
    assert deployed.init_args == (told.models[0],)
    assert not deployed.ray_actor_options["num_gpus"]
    assert not _spec(told.models[0]).accelerated
