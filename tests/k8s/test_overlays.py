"""Each overlay of k8s/ renders to what Kubernetes, KubeRay and this server take."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from deployments.machine.config_file import read_serve_file
from llm_serve.backends import check_engine
from llm_serve.config import DEFAULT_MODEL, default_config
from llm_serve.models import parse
from llm_serve.models.cache import entry_folder
from llm_serve.models.sources import Wheel
from tests.k8s import operator_rules, own_rules, serve_config
from tests.k8s.faults import container
from tests.k8s.rendered import K8S, OVERLAYS, ROOT, Rendered, render
from tests.k8s.schemas import VARIABLE, core_problems, crd_is_here, crd_problems

# Importing ray.serve warns of its own use of pydantic.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

Rule = Callable[[Rendered], Iterator[str]]
RULES: tuple[Rule, ...] = (*operator_rules.RULES, *own_rules.RULES)
TOGETHER = [
    *(("one-cluster", overlay) for overlay in OVERLAYS),
    *((component, overlay) for component in ("ha", "pod-monitor") for overlay in ("cpu", "gpu")),
]
"""Each component with each overlay that has it not already."""


def test_these_are_the_overlays() -> None:
    assert OVERLAYS == ["cpu", "gpu", "ha"]


def test_the_core_schemas_hold(overlay: Rendered) -> None:
    assert list(core_problems(overlay)) == []


@pytest.mark.skipif(not crd_is_here(), reason=f"{VARIABLE} names no folder with KubeRay's CRD")
def test_the_crd_holds(overlay: Rendered) -> None:
    assert list(crd_problems(overlay)) == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_rules_hold(rule: Rule, overlay: Rendered) -> None:
    assert list(rule(overlay)) == []


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_configuration_is_its_file(name: str, rendered: Callable[[str], Rendered]) -> None:
    source = (K8S / "overlays" / name / "serve_config.yaml").read_text()
    assert rendered(name).spec["serveConfigV2"] == source
    assert yaml.safe_load(source) == rendered(name).serve


def test_the_configuration_is_sound(overlay: Rendered, tmp_path: Path) -> None:
    assert list(serve_config.check_problems(overlay, tmp_path)) == []
    assert serve_config.lost(overlay) == []


def test_the_model_of_cpu_is_the_one_that_the_image_has(
    rendered: Callable[[str], Rendered],
) -> None:
    """The image pulls what serve_config.yaml at the root names."""
    baked = read_serve_file(ROOT / "serve_config.yaml").config.default_model
    for name in ("cpu", "ha"):
        served = rendered(name).config.default_model
        wheels = [parse(model) for model in (baked, served, default_config().default_model)]
        assert all(isinstance(wheel, Wheel) for wheel in wheels)
        assert len({entry_folder(wheel) for wheel in wheels if isinstance(wheel, Wheel)}) == 1
        assert served.id == DEFAULT_MODEL


def test_ha_has_what_cpu_has_not(rendered: Callable[[str], Rendered]) -> None:
    few, many = rendered("cpu"), rendered("ha")
    assert "gcsFaultToleranceOptions" not in few.cluster
    assert many.cluster["gcsFaultToleranceOptions"]["backend"] == "redis"
    assert [o["kind"] for o in many.objects].count("PodDisruptionBudget") == 1
    assert many.config.server.ingress_replicas == many.worker["minReplicas"] == 3


def test_gpu_has_the_two_models_take_turns_on_one_type(
    rendered: Callable[[str], Rendered],
) -> None:
    gpu = rendered("gpu")
    models = {m.id: m.num_gpus for m in gpu.config.models}
    assert models == {"Qwen/Qwen2.5-7B-Instruct": 1, "meta-llama/Llama-3.1-8B-Instruct": 1}
    (group,) = gpu.workers
    assert group["maxReplicas"] == 1
    assert container(group)["resources"]["limits"]["nvidia.com/gpu"] == "1"


@pytest.mark.parametrize(("component", "overlay"), TOGETHER)
def test_each_component_goes_with_each_overlay(
    component: str, overlay: str, tmp_path: Path
) -> None:
    made = {
        "resources": [os.path.relpath(K8S / "overlays" / overlay, tmp_path.resolve())],
        "components": [os.path.relpath(K8S / "components" / component, tmp_path.resolve())],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(made))
    both = Rendered(render(tmp_path))
    # How many ingresses there are is said in serve_config.yaml, not by the component.
    rules = [rule for rule in RULES if rule is not own_rules.ingresses]
    assert [said for rule in rules for said in rule(both)] == []
    assert list(core_problems(both)) == []
    strategy = "None" if component == "one-cluster" else "NewCluster"
    assert both.spec["upgradeStrategy"] == {"type": strategy}


@pytest.mark.vllm
@pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed")
def test_the_engines_of_gpu_take_their_arguments(rendered: Callable[[str], Rendered]) -> None:
    for model in rendered("gpu").config.models:
        check_engine(model)
