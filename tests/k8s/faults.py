"""Faults of each kind, planted into a copy of a rendered overlay, and what must be said of each.

Those that Kubernetes, KubeRay and `llm-serve check` find are here, ours in `own_faults`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.k8s.rendered import Object, Rendered

Plant = Callable[[Rendered], Any]
Faults = dict[str, tuple[Plant, str]]


def container(group: Object) -> Object:
    found: Object = group["template"]["spec"]["containers"][0]
    return found


def serve(old: str, new: str) -> Plant:
    """Changes the text of `serveConfigV2`."""

    def plant(r: Rendered) -> None:
        text = r.spec["serveConfigV2"]
        assert old in text
        r.spec["serveConfigV2"] = text.replace(old, new)

    return plant


CRD: Faults = {
    "a misspelt key": (lambda r: r.worker.update(maxReplica=1), "'maxReplica' was unexpected"),
    "a key is missing": (lambda r: r.worker.pop("maxReplicas"), "'maxReplicas' is a required"),
    "a number for a text": (
        lambda r: r.head["rayStartParams"].update(memory=0),
        "0 is not of type",
    ),
    "a text for a number": (
        lambda r: r.worker.update(replicas="1"),
        "'1' is not of type 'integer'",
    ),
    "a misspelt key in a pod": (
        lambda r: container(r.head).update(imagePullPolice="Always"),
        "'imagePullPolice' was unexpected",
    ),
    "a backend that there is not": (
        lambda r: r.cluster.update(gcsFaultToleranceOptions={"backend": "etcd"}),
        "'etcd' is not one of",
    ),
}
CORE: Faults = {
    "a misspelt key": (
        lambda r: r.all("NetworkPolicy")[0]["spec"].update(policyType=["Ingress"]),
        "'policyType' was unexpected",
    ),
    "a text for a number": (
        lambda r: r.worker["template"]["spec"].update(terminationGracePeriodSeconds="120"),
        "'120' is not of type",
    ),
    "a misspelt key of a pod": (
        lambda r: r.head["template"]["spec"]["securityContext"].update(runAsNoneRoot=True),
        "'runAsNoneRoot' was unexpected",
    ),
}
KUBERAY: Faults = {
    "the name is too long": (
        lambda r: r.service["metadata"].update(name="a" * 48),
        "of 47 characters",
    ),
    "the name has a dot": (lambda r: r.service["metadata"].update(name="a.b"), "DNS-1035"),
    "replicas are left out": (lambda r: r.worker.pop("replicas"), "must be written"),
    "no replica at least": (lambda r: r.worker.update(minReplicas=0), "0 < minReplicas"),
    "more replicas than the most": (lambda r: r.worker.update(replicas=9), "<= maxReplicas"),
    "a readinessProbe": (
        lambda r: container(r.worker).update(readinessProbe={"tcpSocket": {"port": 1}}),
        "does not ask the Serve proxy",
    ),
    "another Ray": (lambda r: r.cluster.update(rayVersion="2.61.0"), "rayVersion is 2.61.0"),
    "an old Ray": (lambda r: r.cluster.update(rayVersion="2.52.1"), "older than 2.53"),
    "an image of another Ray": (
        lambda r: container(r.worker).update(image="llm-serve:0.1.0-ray2.59.0"),
        "0.1.0-ray2.59.0 is not",
    ),
    "no token": (lambda r: r.cluster.pop("authOptions"), "Ray's ports are open"),
    "tokens of Kubernetes": (
        lambda r: r.cluster["authOptions"].update(enableK8sTokenAuth=True),
        "no enableK8sTokenAuth",
    ),
    "the old annotation": (
        lambda r: r.service["metadata"].update(annotations={"ray.io/ft-enabled": "true"}),
        "ray.io/ft-enabled",
    ),
    "Redis in the environment": (
        lambda r: container(r.head)["env"].append({"name": "RAY_REDIS_ADDRESS", "value": "r"}),
        "RAY_REDIS_ADDRESS in the head's",
    ),
    "Redis among the parameters": (
        lambda r: r.head["rayStartParams"].update({"redis-password": "x"}),
        "rayStartParams has redis-password",
    ),
    "Redis elsewhere": (
        lambda r: r.cluster["gcsFaultToleranceOptions"].update(redisAddress="redis://r:1"),
        "nobody listens on redis://r:1",
    ),
    "Redis for everybody": (
        lambda r: r.cluster["gcsFaultToleranceOptions"].pop("redisPassword"),
        "without a password",
    ),
    "an upgrade that there is not": (
        lambda r: r.spec["upgradeStrategy"].update(type="Rolling"),
        "upgradeStrategy.type is Rolling",
    ),
    "an incremental upgrade": (
        lambda r: r.spec["upgradeStrategy"].update(type="NewClusterWithIncrementalUpgrade"),
        "behind the director's back",
    ),
    "the head computes": (
        lambda r: r.head["rayStartParams"].pop("num-cpus"),
        "the head's num-cpus is not 0",
    ),
    "the head has memory for models": (
        lambda r: r.head["rayStartParams"].pop("memory"),
        "the head's memory is not 0",
    ),
    "the head serves": (
        lambda r: r.spec.update(excludeHeadPodFromServeSvc=False),
        "not excluded from the Service",
    ),
    "the head without a port": (
        lambda r: container(r.head)["ports"].pop(1),
        "the head's ports are",
    ),
    "resources said twice": (
        lambda r: r.head.update(resources={"CPU": "0"}),
        "head: resources beside rayStartParams",
    ),
    "labels as a parameter": (
        lambda r: r.worker["rayStartParams"].update(labels="a=b"),
        "they go into `labels`",
    ),
}
SERVE: Faults = {
    "a key that Ray Serve drops": (
        serve("route_prefix: /", "route_prefix: /\n    runtime_envs: {}"),
        "unknown key 'runtime_envs'",
    ),
    "a misspelt option of a deployment": (
        serve("label_selector:", "label_selectors:"),
        "unknown key 'label_selectors'",
    ),
    "a misspelt key of ours": (serve("preload: true", "preloaded: true"), "'preload'"),
    "no policy": (
        serve("policy_function: deployments.autoscaling:ResidencyPolicy", "policy_kwargs: {}"),
        "nothing would ever be loaded",
    ),
}
