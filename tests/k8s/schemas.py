"""What Kubernetes and KubeRay's CRD say of an object, taken at their strictest.

The CRD is not part of this repository: LLM_SERVE_TEST_DATA names the folder that has it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml
from jsonschema import Draft202012Validator

from tests.k8s.rendered import Object, Rendered

VARIABLE = "LLM_SERVE_TEST_DATA"
CRD = "ray.io_rayservices.yaml"
NOT_CORE = ("RayService", "PodMonitor")
"""Kinds of operators; the first one has its CRD, the second one only what the rules say of it."""


def crd_is_here() -> bool:
    folder = os.environ.get(VARIABLE)
    return folder is not None and (Path(folder) / CRD).is_file()


def core_problems(rendered: Rendered) -> Iterator[str]:
    """Of every object of Kubernetes itself, and of Ray's pods, against the newest version known."""
    pods = [
        {"apiVersion": "v1", "kind": "Pod", **template, "metadata": {"name": "pod"}}
        for _, template in rendered.pods()
    ]
    for item in [*(o for o in rendered.objects if o["kind"] not in NOT_CORE), *pods]:
        try:
            kubernetes_validate.validate(item, kubernetes_validate.latest_version(), strict=True)
        except kubernetes_validate.ValidationError as error:
            yield f"{item['kind']} {item['metadata']['name']}: {error.message}"


def crd_problems(rendered: Rendered) -> Iterator[str]:
    for error in _ray_service().iter_errors(rendered.service):
        yield f"{error.json_path}: {error.message}"


@cache
def _ray_service() -> Draft202012Validator:
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # a megabyte of YAML
    crd = yaml.load((Path(os.environ[VARIABLE]) / CRD).read_text(), Loader=loader)
    (version,) = (v for v in crd["spec"]["versions"] if v["name"] == "v1")
    return Draft202012Validator(_strict(version["schema"]["openAPIV3Schema"]))


def _strict(schema: Any) -> Any:
    """As the API server prunes: a key that is not listed is an error here."""
    if isinstance(schema, list):
        return [_strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made: Object = {key: _strict(part) for key, part in schema.items()}
    if made.get("x-kubernetes-int-or-string") is True:
        made = {**made, "type": ["integer", "string"]}
        made.pop("anyOf", None)
    closed = isinstance(made.get("properties"), dict) and made.get("type") == "object"
    if closed and "additionalProperties" not in made:
        made["additionalProperties"] = made.get("x-kubernetes-preserve-unknown-fields", False)
    return made
