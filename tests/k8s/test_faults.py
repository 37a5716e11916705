"""What the checks of the overlays are worth: each fault of `faults` is found, and named."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path

import pytest

from tests.k8s import faults, own_faults, serve_config
from tests.k8s.faults import Faults, Plant
from tests.k8s.operator_rules import RULES as KUBERAY
from tests.k8s.own_rules import RULES as OURS
from tests.k8s.rendered import Rendered
from tests.k8s.schemas import VARIABLE, core_problems, crd_is_here, crd_problems

# Importing ray.serve warns of its own use of pydantic.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

Render = Callable[[str], Rendered]
OWN_TABLES = (("cpu", own_faults.OURS), ("ha", own_faults.OF_HA), ("gpu", own_faults.OF_GPU))


def cases(*tables: tuple[str, Faults]) -> pytest.MarkDecorator:
    """Each fault of each table, planted into the overlay that stands before the table."""
    return pytest.mark.parametrize(
        ("overlay", "plant", "said"),
        [
            pytest.param(overlay, *fault, id=f"{overlay}: {name}")
            for overlay, table in tables
            for name, fault in table.items()
        ],
    )


def found(rules: Iterable[Callable[[Rendered], Iterator[str]]], rendered: Rendered) -> str:
    return "\n".join(chain.from_iterable(rule(rendered) for rule in rules))


@cases(("ha", faults.KUBERAY))
def test_the_operators_rules_find_it(
    overlay: str, plant: Plant, said: str, rendered: Render
) -> None:
    broken = rendered(overlay).copied()
    plant(broken)
    assert said in found(KUBERAY, broken)


@cases(*OWN_TABLES)
def test_our_rules_find_it(overlay: str, plant: Plant, said: str, rendered: Render) -> None:
    broken = rendered(overlay).copied()
    plant(broken)
    assert said in found(OURS, broken)


@pytest.mark.skipif(not crd_is_here(), reason=f"{VARIABLE} names no folder with KubeRay's CRD")
@cases(("cpu", faults.CRD))
def test_the_crd_finds_it(overlay: str, plant: Plant, said: str, rendered: Render) -> None:
    broken = rendered(overlay).copied()
    plant(broken)
    assert said in "\n".join(crd_problems(broken))


@cases(("cpu", faults.CORE))
def test_the_core_schemas_find_it(overlay: str, plant: Plant, said: str, rendered: Render) -> None:
    broken = rendered(overlay).copied()
    plant(broken)
    assert said in "\n".join(core_problems(broken))


@cases(("cpu", faults.SERVE))
def test_llm_serve_check_finds_it(
    overlay: str, plant: Plant, said: str, rendered: Render, tmp_path: Path
) -> None:
    broken = rendered(overlay).copied()
    plant(broken)
    assert said in "\n".join(serve_config.check_problems(broken, tmp_path))


def test_a_key_that_ray_serve_drops_is_missed_in_the_round_trip(rendered: Render) -> None:
    broken = rendered("cpu").copied()
    plant, _ = faults.SERVE["a misspelt option of a deployment"]
    plant(broken)
    (lost, *_) = serve_config.lost(broken)
    assert "label_selectors" in lost


def test_every_rule_has_a_fault(rendered: Render) -> None:
    """No rule is there that nothing was planted against."""
    silent = {*KUBERAY, *OURS}
    for overlay, table in (("ha", faults.KUBERAY), *OWN_TABLES):
        for plant, _ in table.values():
            broken = rendered(overlay).copied()
            plant(broken)
            silent -= {rule for rule in silent if list(rule(broken))}
    assert {rule.__name__ for rule in silent} == set()
