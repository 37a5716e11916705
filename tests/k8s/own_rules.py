"""What this server asks for on Kubernetes, one function a rule: each yields what is wrong."""

from __future__ import annotations

from collections.abc import Iterator

from deployments.app.names import INGRESS, deployment_of
from deployments.machine.environment import serve_env
from llm_serve.config import ModelConfig
from tests.k8s.rendered import Object, Rendered, quantity

GPU = "nvidia.com/gpu"
ONE_MACHINE = ("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "LLM_SERVE_INNER_HOST")
"""Of `serve.env`: they keep Ray's own ports on 127.0.0.1."""
HAPROXY = "RAY_SERVE_HAPROXY_BINARY_PATH"
OPERATOR = {"app.kubernetes.io/name": "kuberay-operator"}


def public_port(r: Rendered) -> Iterator[str]:
    """KubeRay finds it by the name `serve`, and asks HAProxy there from outside the pod."""
    options = r.serve.get("http_options") or {}
    if options.get("host") != "0.0.0.0":
        yield f"http_options.host is {options.get('host')}: nobody reaches it from outside the pod"
    for who, container in r.ray_containers():
        ports = {p["name"]: p["containerPort"] for p in container.get("ports", ())}
        if ports.get("serve") != options.get("port"):
            yield f"{who}: the port `serve` is {ports.get('serve')}, not {options.get('port')}"


def timeouts(r: Rendered) -> Iterator[str]:
    longest, server = r.config.longest_request_s, r.config.server
    delay = r.spec.get("rayClusterDeletionDelaySeconds") or 0
    if delay <= longest:
        yield f"rayClusterDeletionDelaySeconds {delay} cuts a request of {longest:g} s"
    for who, pod in r.pods():
        grace = pod["spec"].get("terminationGracePeriodSeconds", 30)
        if pod["metadata"]["labels"].get("llm-serve/server") and grace <= server.drain_timeout_s:
            yield f"{who}: terminationGracePeriodSeconds {grace} is no more than drain_timeout_s"
    for who, container in r.ray_containers():
        variables = r.variables(container)
        hard_stop = float(variables.get("RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S", 0))
        if hard_stop <= longest:
            yield f"{who}: HAProxy is stopped after {hard_stop:g} s, in a request of {longest:g} s"
        if float(variables.get("LLM_SERVE_BODY_TIMEOUT_S", 0)) != server.body_timeout_s:
            yield f"{who}: LLM_SERVE_BODY_TIMEOUT_S is not server.body_timeout_s"


def transport(r: Rendered) -> Iterator[str]:
    """Each pod has the variables of `serve.env`, without those for one machine."""
    wanted = {k: v for k, v in serve_env().items() if k not in ONE_MACHINE} | {
        HAPROXY: "/opt/llm-serve/bin/llm-serve-haproxy"
    }
    for who, container in r.ray_containers():
        variables = r.variables(container)
        for key, value in wanted.items():
            if variables.get(key) != value:
                yield f"{who}: {key} is {variables.get(key)!r}, and {value!r} in serve.env"
        yield from (f"{who}: {key} is for one machine" for key in ONE_MACHINE if key in variables)


def placement(r: Rendered) -> Iterator[str]:
    """Replicas ask for no CPUs, so only a label keeps them off the head."""
    config = r.config
    known = {INGRESS, *(deployment_of(m.id) for m in config.models)}
    kept = {d["name"]: d.get("ray_actor_options", {}) for d in r.application.get("deployments", ())}
    yield from (f"there is no deployment {name!r}" for name in kept if name not in known)
    must = {INGRESS, *(deployment_of(m.id) for m in config.models if not _gpus(m))}
    yield from (f"{name} may be on the head" for name in sorted(must - set(kept)))
    for name, options in kept.items():
        selector = options.get("label_selector", {})
        if name in must and not selector:
            yield f"{name} may be on the head"
        if not any(selector.items() <= g.get("labels", {}).items() for g in r.workers):
            yield f"{name}: no worker group has the labels {selector}"
        if options.get("num_cpus") != 0:
            yield f"{name}: num_cpus is not 0, as it is without the override"


def gpus(r: Rendered) -> Iterator[str]:
    """Each model finds what it wants on a node, and all pinned ones in the least replicas."""
    offered = [
        (int(_limits(g).get(GPU, 0)), g["minReplicas"] * int(_limits(g).get(GPU, 0)))
        for g in r.workers
    ]
    node, everywhere = max(n for n, _ in offered), sum(total for _, total in offered)
    for model in r.config.models:
        if model.num_gpus is None and node:
            yield f"{model.id}: num_gpus is not written, and GPUs may join late"
        if _gpus(model) > node:
            yield f"{model.id} wants {_gpus(model):g} GPUs of one node, which offers {node}"
    pinned = sum(_gpus(m) for m in r.config.models if m.pin)
    if pinned > everywhere:
        yield f"pinned models want {pinned:g} GPUs of {everywhere}"
    for group in r.workers:
        spec = group["template"]["spec"]
        if _limits(group).get(GPU) and not (spec.get("nodeSelector") and spec.get("tolerations")):
            yield f"group {group['groupName']}: GPUs without a node selector or a toleration"


def rights(r: Rendered) -> Iterator[str]:
    """Pods that the namespace's policy `restricted` lets in, and that write to volumes only."""
    for who, pod in r.pods():
        spec = pod["spec"]
        context = spec.get("securityContext", {})
        if context.get("runAsNonRoot") is not True or not context.get("runAsUser"):
            yield f"{who}: may run as root"
        if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield f"{who}: no seccomp profile"
        if spec.get("automountServiceAccountToken") is not False:
            yield f"{who}: has a token of the API server"
        for container in (*spec.get("initContainers", ()), *spec["containers"]):
            own = container.get("securityContext", {})
            if own.get("allowPrivilegeEscalation") is not False:
                yield f"{who}: {container['name']} may get more rights"
            if own.get("capabilities", {}).get("drop") != ["ALL"]:
                yield f"{who}: {container['name']} keeps capabilities"
            if own.get("readOnlyRootFilesystem") is not True:
                yield f"{who}: {container['name']} may change its image"
            tag = container["image"].rpartition("/")[2].partition(":")[2]
            if tag in ("", "latest"):
                yield f"{who}: {container['name']} has an image without a version"


def secrets(r: Rendered) -> Iterator[str]:
    """None is in a file; each is where the server looks for it."""
    yield from (f"a Secret is in the files: {s['metadata']['name']}" for s in r.all("Secret"))
    for who, pod in r.pods():
        for container in pod["spec"]["containers"]:
            for entry in container.get("env", ()):
                secret = any(w in entry["name"] for w in ("TOKEN", "PASSWORD", "KEY"))
                if secret and "secretKeyRef" not in entry.get("valueFrom", {}):
                    yield f"{who}: {entry['name']} is no reference to a Secret"
    keys = r.config.server.api_key_file
    if keys is None:
        yield "everybody may ask: there is no server.api_key_file"
        return
    for who, pod in r.pods():
        if "llm-serve/server" in pod["metadata"]["labels"]:
            mounts = pod["spec"]["containers"][0]["volumeMounts"]
            volume = _mounted(pod["spec"], keys)
            if volume is None or "secret" not in volume:
                yield f"{who}: {keys} is in no mounted Secret"
            elif not all(m.get("readOnly") for m in mounts if m["name"] == volume["name"]):
                yield f"{who}: {keys} can be written"


def caches(r: Rendered) -> Iterator[str]:
    """Weights go to a volume, the same on head and workers: the head asks how large they are."""
    for who, pod in r.pods():
        spec = pod["spec"]
        named = {v["name"] for v in spec.get("volumes", ())}
        for container in (*spec.get("initContainers", ()), *spec["containers"]):
            for mount in container.get("volumeMounts", ()):
                if mount["name"] not in named | {"data"}:
                    yield f"{who}: there is no volume {mount['name']}"
        if "llm-serve/server" in pod["metadata"]["labels"]:
            variables = r.variables(spec["containers"][0])
            for key in ("HF_HOME", "LLM_SERVE_CACHE"):
                volume = _mounted(spec, variables.get(key, ""))
                if volume is None or not ({"emptyDir", "persistentVolumeClaim"} & set(volume)):
                    yield f"{who}: {key} is on no volume that can be written"
            yield from _claims(r, who, spec)


def _claims(r: Rendered, who: str, spec: Object) -> Iterator[str]:
    claims = r.all("PersistentVolumeClaim")
    modes = {c["metadata"]["name"]: c["spec"]["accessModes"] for c in claims}
    for volume in spec["volumes"]:
        if "persistentVolumeClaim" in volume:
            claim = volume["persistentVolumeClaim"]["claimName"]
            if modes.get(claim) != ["ReadWriteMany"]:
                yield f"{who}: no claim {claim} for many nodes"


def memory(r: Rendered) -> Iterator[str]:
    """What is asked for is what there is: the director plans with all of a pod's memory."""
    for who, container in r.ray_containers():
        given = container.get("resources", {})
        asked, most = (given.get(k, {}).get("memory") for k in ("requests", "limits"))
        if asked is None or asked != most:
            yield f"{who}: memory is requested as {asked}, and limited to {most}"
    for group in r.workers:
        if "ephemeral-storage" not in _limits(group):
            yield f"group {group['groupName']}: no limit of ephemeral storage"
        for volume in group["template"]["spec"]["volumes"]:
            shared = volume.get("emptyDir", {})
            if shared.get("medium") == "Memory":
                most = quantity(_limits(group)["memory"])
                if not quantity(shared.get("sizeLimit", "inf")) < most:
                    yield f"{volume['name']} may take all memory of the pod"


def selectors(r: Rendered) -> Iterator[str]:
    """Whoever selects pods finds some."""
    labels = [pod["metadata"]["labels"] for _, pod in r.pods()]
    for item in r.objects:
        spec = item.get("spec", {})
        chosen = {
            "NetworkPolicy": spec.get("podSelector", {}),
            "PodDisruptionBudget": spec.get("selector", {}),
            "PodMonitor": spec.get("selector", {}),
            "Service": {"matchLabels": spec.get("selector", {})},
        }.get(item["kind"])
        if chosen is not None:
            wanted = chosen.get("matchLabels", {})
            if not wanted or not any(wanted.items() <= of.items() for of in labels):
                yield f"{item['kind']} {item['metadata']['name']} selects no pod"
    for monitor in r.all("PodMonitor"):
        if [e["port"] for e in monitor["spec"]["podMetricsEndpoints"]] != ["metrics"]:
            yield "the PodMonitor asks another port than KubeRay's `metrics`"


def network(r: Rendered) -> Iterator[str]:
    """Closed but for who must come in: clients to workers, the operator to the head's dashboard."""
    closed, clients, operator = False, False, False
    for policy in r.all("NetworkPolicy"):
        spec = policy["spec"]
        selected = spec["podSelector"].get("matchLabels", {})
        if selected == {"llm-serve/server": "llm-serve"}:
            closed |= {"Ingress", "Egress"} <= set(spec["policyTypes"])
        for rule in spec.get("ingress", ()):
            ports = {p["port"] for p in rule.get("ports", ())}
            if not rule.get("from"):
                yield f"NetworkPolicy {policy['metadata']['name']}: lets in everybody"
            if (r.serve.get("http_options") or {}).get("port") in ports:
                clients |= selected.get("llm-serve/role") == "worker"
            for peer in rule.get("from", ()):
                chosen = peer.get("podSelector", {}).get("matchLabels")
                operator |= chosen == OPERATOR and ports == {8265}
    if not closed:
        yield "no NetworkPolicy closes the pods"
    if not clients:
        yield "no NetworkPolicy lets clients in to the workers"
    if not operator:
        yield "no NetworkPolicy lets the operator in to the dashboard"


def ingresses(r: Rendered) -> Iterator[str]:
    """Where drains are bounded, another worker serves meanwhile."""
    if not r.all("PodDisruptionBudget"):
        return
    workers = sum(g["minReplicas"] for g in r.workers)
    if r.config.server.ingress_replicas < 2 or workers < 2:
        yield f"{r.config.server.ingress_replicas} ingresses on {workers} workers: one is none"


RULES = (
    *(public_port, timeouts, transport, placement, gpus),
    *(rights, secrets, caches, memory, selectors, network, ingresses),
)


def _gpus(model: ModelConfig) -> float:
    return model.num_gpus or 0


def _limits(group: Object) -> dict[str, str]:
    found: dict[str, str] = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    return found


def _mounted(spec: Object, path: str) -> Object | None:
    """The volume of the first container that this path is on."""
    for mount in spec["containers"][0].get("volumeMounts", ()):
        if path == mount["mountPath"] or path.startswith(mount["mountPath"] + "/"):
            return next((v for v in spec["volumes"] if v["name"] == mount["name"]), None)
    return None
