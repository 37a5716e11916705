"""What KubeRay asks for beside its CRD, one function a rule: each yields what is wrong.

Restated from `ray-operator/controllers/ray/utils/validation.go` and `common/pod.go` of KubeRay 1.7;
where it would take a file and then do what nobody wants, the rule says what it would do.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator

import llm_serve
from tests.k8s.rendered import ROOT, Rendered

LONGEST_NAME = 47
"""KubeRay adds what tells the clusters of one RayService apart."""
ONE_HEALTH_CHECK = (2, 53)
"""The first Ray whose nodes KubeRay asks by one HTTP request."""
UPGRADES = ("NewCluster", "NewClusterWithIncrementalUpgrade", "None")
OLD_ANNOTATIONS = ("ray.io/ft-enabled", "ray.io/external-storage-namespace")
OLD_REDIS = ("RAY_REDIS_ADDRESS", "REDIS_PASSWORD", "REDIS_USERNAME")
HEAD_PORTS = {"gcs-server", "dashboard", "client", "serve"}
"""KubeRay makes the head's Service from these, or from its defaults where there are none at all."""


def ray_pin() -> str:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (pin,) = (d for d in project["dependencies"] if d.startswith("ray["))
    return str(pin.partition("==")[2])


def name(r: Rendered) -> Iterator[str]:
    own = r.service["metadata"]["name"]
    if len(own) > LONGEST_NAME or not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", own):
        yield f"{own!r} is no DNS-1035 label of {LONGEST_NAME} characters at most"


def replicas(r: Rendered) -> Iterator[str]:
    for group in r.workers:
        least, now, most = (group.get(k) for k in ("minReplicas", "replicas", "maxReplicas"))
        if least is None or now is None or most is None:
            yield f"{group['groupName']}: minReplicas, replicas and maxReplicas must be written"
        elif not 0 < least <= now <= most:
            yield f"{group['groupName']}: 0 < minReplicas <= replicas <= maxReplicas must hold"


def probes(r: Rendered) -> Iterator[str]:
    for who, container in r.ray_containers():
        if "readinessProbe" in container and who != "head":
            yield f"{who}: with a readinessProbe KubeRay does not ask the Serve proxy"


def versions(r: Rendered) -> Iterator[str]:
    version, pin = str(r.cluster.get("rayVersion")), ray_pin()
    if version != pin:
        yield f"rayVersion is {version}, and pyproject.toml has {pin}"
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < ONE_HEALTH_CHECK:
        yield f"rayVersion {version} is older than 2.53"
    for who, container in r.ray_containers():
        tag = container["image"].rpartition(":")[2]
        if tag != f"{llm_serve.__version__}-ray{pin}":
            yield f"{who}: the image's tag {tag} is not llm-serve's version and Ray's"


def token(r: Rendered) -> Iterator[str]:
    options = r.cluster.get("authOptions") or {}
    if options.get("mode") != "token":
        yield "without authOptions.mode `token` Ray's ports are open"
    if options.get("enableK8sTokenAuth"):
        yield "a RayService takes no enableK8sTokenAuth"


def fault_tolerance(r: Rendered) -> Iterator[str]:
    """Not said twice, nor in the old way; where it is on, Redis is where it says."""
    start = r.head["rayStartParams"]
    yield from (f"rayStartParams has {key}" for key in start if key.startswith("redis-"))
    for metadata in (r.service["metadata"], r.head["template"].get("metadata", {})):
        for old in OLD_ANNOTATIONS:
            if old in metadata.get("annotations", {}):
                yield f"the annotation {old}: use gcsFaultToleranceOptions"
    names = [e["name"] for e in r.head["template"]["spec"]["containers"][0].get("env", ())]
    yield from (f"{old} in the head's environment" for old in OLD_REDIS if old in names)
    options = r.cluster.get("gcsFaultToleranceOptions")
    if options is None:
        return
    there = {
        f"redis://{s['metadata']['name']}:{p['port']}"
        for s in r.all("Service")
        for p in s["spec"]["ports"]
    }
    if options.get("redisAddress") not in there:
        yield f"nobody listens on {options.get('redisAddress')}"
    if "valueFrom" not in options.get("redisPassword", {}):
        yield "Redis is without a password from a Secret"


def upgrades(r: Rendered) -> Iterator[str]:
    strategy = r.spec.get("upgradeStrategy") or {}
    if strategy.get("type") not in UPGRADES:
        yield f"upgradeStrategy.type is {strategy.get('type')}; it is one of {', '.join(UPGRADES)}"
    elif strategy["type"] == UPGRADES[1]:
        yield "an incremental upgrade sets capacities behind the director's back"


def head(r: Rendered) -> Iterator[str]:
    """It serves nobody, and nothing may be planned there."""
    for key in ("num-cpus", "num-gpus", "memory"):
        if r.head["rayStartParams"].get(key) != "0":
            yield f"the head's {key} is not 0"
    if r.spec.get("excludeHeadPodFromServeSvc") is not True:
        yield "the head is not excluded from the Service"
    ports = {p["name"] for p in r.head["template"]["spec"]["containers"][0].get("ports", ())}
    if ports != HEAD_PORTS:
        yield f"the head's ports are {sorted(ports)}"


def resources(r: Rendered) -> Iterator[str]:
    """Said once, and labels where KubeRay takes them from."""
    asked = {"num-cpus", "num-gpus", "memory", "resources"}
    for group in (r.head, *r.workers):
        who = group.get("groupName", "head")
        start = group.get("rayStartParams", {})
        if group.get("resources") and asked & set(start):
            yield f"{who}: resources beside rayStartParams"
        if "labels" in start:
            yield f"{who}: rayStartParams has labels; they go into `labels` of the group"


RULES = (
    *(name, replicas, probes, versions, token),
    *(fault_tolerance, upgrades, head, resources),
)
