"""Faults that our own rules find; see `faults`."""

from __future__ import annotations

from tests.k8s.faults import Faults, Plant, container, serve
from tests.k8s.rendered import Object, Rendered


def _env(r: Rendered, name: str) -> Object:
    (found,) = (e for e in container(r.head)["env"] if e["name"] == name)
    assert isinstance(found, dict)
    return found


def _variable(name: str, value: str) -> Plant:
    return lambda r: r.all("ConfigMap")[0]["data"].update({name: value})


def _without(kind: str, name: str) -> Plant:
    def plant(r: Rendered) -> None:
        (index,) = (
            i for i, o in enumerate(r.objects) if (o["kind"], o["metadata"]["name"]) == (kind, name)
        )
        del r.objects[index]

    return plant


OURS: Faults = {
    "the server listens in the pod only": (
        serve("host: 0.0.0.0", "host: 127.0.0.1"),
        "http_options.host is 127.0.0.1",
    ),
    "another port": (serve("port: 11424", "port: 8000"), "the port `serve` is 11424, not 8000"),
    "the old cluster goes early": (
        lambda r: r.spec.update(rayClusterDeletionDelaySeconds=600),
        "cuts a request of 900 s",
    ),
    "requests may take longer": (
        serve("server:", "server:\n        inference_timeout_s: 7200"),
        "in a request of 7500 s",
    ),
    "pods are killed early": (
        lambda r: r.worker["template"]["spec"].update(terminationGracePeriodSeconds=60),
        "no more than drain_timeout_s",
    ),
    "a body may take longer": (
        serve("server:", "server:\n        body_timeout_s: 90"),
        "LLM_SERVE_BODY_TIMEOUT_S is not",
    ),
    "a slow transport": (
        _variable("RAY_SERVE_ENABLE_HA_PROXY", "0"),
        "RAY_SERVE_ENABLE_HA_PROXY is '0'",
    ),
    "ports of one machine": (
        _variable("LLM_SERVE_INNER_HOST", "127.0.0.1"),
        "LLM_SERVE_INNER_HOST is for one machine",
    ),
    "a deployment that there is not": (
        serve("Model.HuggingFaceTB~2FSmol", "Model.HuggingFaceTB/Smol"),
        "there is no deployment 'Model.HuggingFaceTB/Smol",
    ),
    "a model on the head": (
        serve("- name: Model.HuggingFaceTB~2FSmol", "- name: Model.other~2FSmol"),
        "SmolLM2-135M-Instruct may be on the head",
    ),
    "replicas anywhere": (
        serve("label_selector:\n            llm-serve/role: worker", "label_selector: {}"),
        "Ingress may be on the head",
    ),
    "a label that no node has": (
        lambda r: r.worker["labels"].update({"llm-serve/role": "cpu"}),
        "no worker group has the labels",
    ),
    "replicas that ask for CPUs": (serve("num_cpus: 0", "num_cpus: 1"), "num_cpus is not 0"),
    "may run as root": (
        lambda r: r.head["template"]["spec"]["securityContext"].pop("runAsNonRoot"),
        "head: may run as root",
    ),
    "no seccomp": (
        lambda r: r.head["template"]["spec"]["securityContext"].pop("seccompProfile"),
        "head: no seccomp profile",
    ),
    "a token of the API server": (
        lambda r: r.worker["template"]["spec"].pop("automountServiceAccountToken"),
        "has a token of the API server",
    ),
    "more rights": (
        lambda r: container(r.worker)["securityContext"].pop("allowPrivilegeEscalation"),
        "ray-worker may get more rights",
    ),
    "capabilities": (
        lambda r: r.worker["template"]["spec"]["initContainers"][0]["securityContext"].pop(
            "capabilities"
        ),
        "model-cache keeps capabilities",
    ),
    "a root that can be written": (
        lambda r: container(r.head)["securityContext"].update(readOnlyRootFilesystem=False),
        "ray-head may change its image",
    ),
    "the latest image": (
        lambda r: container(r.worker).update(image="registry:5000/llm-serve:latest"),
        "has an image without a version",
    ),
    "no tag": (
        lambda r: container(r.worker).update(image="registry:5000/llm-serve"),
        "has an image without a version",
    ),
    "a Secret in the files": (
        lambda r: r.objects.append({"kind": "Secret", "metadata": {"name": "oops"}}),
        "a Secret is in the files: oops",
    ),
    "a token in the environment": (
        lambda r: (_env(r, "HF_TOKEN").pop("valueFrom"), _env(r, "HF_TOKEN").update(value="hf_x")),
        "HF_TOKEN is no reference",
    ),
    "no key is asked for": (
        serve("api_key_file: /etc/llm-serve/keys", "max_body_mb: 8"),
        "everybody may ask",
    ),
    "keys elsewhere": (serve("/etc/llm-serve/keys", "/etc/keys"), "/etc/keys is in no mounted"),
    "keys that can be written": (
        lambda r: container(r.worker)["volumeMounts"][2].pop("readOnly"),
        "/etc/llm-serve/keys can be written",
    ),
    "weights into the root": (
        lambda r: _env(r, "HF_HOME").update(value="/hub"),
        "HF_HOME is on no volume",
    ),
    "a volume that there is not": (
        lambda r: container(r.head)["volumeMounts"][1].update(name="cash"),
        "there is no volume cash",
    ),
    "memory that may be missing": (
        lambda r: container(r.worker)["resources"]["requests"].update(memory="1Gi"),
        "memory is requested as 1Gi",
    ),
    "a disk without a limit": (
        lambda r: container(r.worker)["resources"]["limits"].pop("ephemeral-storage"),
        "no limit of ephemeral storage",
    ),
    "a selector of nobody": (
        lambda r: r.worker["template"]["metadata"]["labels"].pop("llm-serve/role"),
        "NetworkPolicy llm-serve-clients selects no pod",
    ),
    "pods open to everybody": (_without("NetworkPolicy", "llm-serve"), "closes the pods"),
    "clients locked out": (_without("NetworkPolicy", "llm-serve-clients"), "lets clients in"),
    "the operator locked out": (
        lambda r: r.all("NetworkPolicy")[0]["spec"]["ingress"].pop(1),
        "lets the operator in",
    ),
    "a rule for everybody": (
        lambda r: r.all("NetworkPolicy")[0]["spec"]["ingress"].append({}),
        "lets in everybody",
    ),
}
OF_HA: Faults = {
    "drains without another ingress": (
        serve("ingress_replicas: 3", "ingress_replicas: 1"),
        "1 ingresses on 3 workers",
    ),
    "a budget of nobody": (
        lambda r: r.all("PodDisruptionBudget")[0]["spec"]["selector"].update(
            matchLabels={"app": "x"}
        ),
        "llm-serve-workers selects no pod",
    ),
    "metrics of another port": (
        lambda r: r.all("PodMonitor")[0]["spec"]["podMetricsEndpoints"][0].update(port="serve"),
        "the PodMonitor asks another port",
    ),
}
OF_GPU: Faults = {
    "more GPUs than a node has": (
        serve("num_gpus: 1", "num_gpus: 2"),
        "wants 2 GPUs of one node, which offers 1",
    ),
    "more pinned than there is": (
        serve("num_gpus: 1", "num_gpus: 1\n          pin: true"),
        "pinned models want 2 GPUs of 1",
    ),
    "GPUs left to chance": (
        serve("num_gpus: 1\n          preload", "preload"),
        "num_gpus is not written",
    ),
    "any GPU": (
        lambda r: r.worker["template"]["spec"].pop("nodeSelector"),
        "without a node selector",
    ),
    "no toleration": (
        lambda r: r.worker["template"]["spec"].pop("tolerations"),
        "without a node selector or a toleration",
    ),
    "a claim of one node": (
        lambda r: r.all("PersistentVolumeClaim")[0]["spec"].update(accessModes=["ReadWriteOnce"]),
        "no claim llm-serve-models for many nodes",
    ),
    "shared memory without a limit": (
        lambda r: r.worker["template"]["spec"]["volumes"][-1]["emptyDir"].pop("sizeLimit"),
        "shm may take all memory",
    ),
}
