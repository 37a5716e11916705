"""What we use of Ray beyond its documented interface is there, and is missed where it is not."""

from __future__ import annotations

import pytest
import ray

from deployments.ray_patches.check import (
    RELIED_ON,
    WRITTEN_FOR,
    RayChanged,
    _is_there,
    check,
)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def test_the_installed_ray_has_it_all() -> None:
    check()
    assert ray.__version__.startswith(f"{WRITTEN_FOR}.")


@pytest.mark.parametrize("name", [one.name for one in RELIED_ON])
def test_what_is_missing_is_said_with_the_file(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (one,) = [one for one in RELIED_ON if one.name == name]
    monkeypatch.delattr(f"{one.module}.{name}")
    with pytest.raises(RayChanged, match=f"{name}.*{one.used_by}.*written for Ray {WRITTEN_FOR}"):
        check()


@pytest.mark.parametrize("name", [one.name for one in RELIED_ON if one.like is not _is_there])
def test_what_is_no_longer_the_same_is_said_as_well(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (one,) = [one for one in RELIED_ON if one.name == name]
    monkeypatch.setattr(f"{one.module}.{name}", lambda: "another")
    with pytest.raises(RayChanged, match=f"{name}.*{one.used_by}"):
        check()
