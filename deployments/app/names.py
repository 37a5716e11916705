"""The names that Ray's actors and deployments have, in both directions."""

from __future__ import annotations

from urllib.parse import quote, unquote

from deployments.ray_patches.actors import REPLICA

INGRESS = "Ingress"
_MODEL = "Model."


def director_name(app: str) -> str:
    """The actor that decides for one application, in the namespace `serve`."""
    return f"llm-serve-director:{app}"


def deployment_of(model_id: str) -> str:
    """The deployment of a model.

    Ray keeps `#` and `/` for itself, and puts the name into a %-format of its log: so bytes are
    quoted as in a URL, but with `~`.
    """
    return _MODEL + quote(model_id, safe="").replace("~", "%7E").replace("%", "~")


def model_of(deployment: str) -> str | None:
    """The model of a deployment; None for the ingress."""
    if not deployment.startswith(_MODEL):
        return None
    return unquote(deployment.removeprefix(_MODEL).replace("~", "%"))


def replica_model(actor: str, app: str) -> str | None:
    """The model of a replica, from the name of its actor; None for other actors."""
    deployment, _ = _replica(actor, app)
    return model_of(deployment)


def ingress_replica(actor: str, app: str) -> str | None:
    """The id of an ingress replica, from the name of its actor; None for other actors."""
    deployment, replica = _replica(actor, app)
    return replica if deployment == INGRESS else None


def _replica(actor: str, app: str) -> tuple[str, str]:
    prefix = f"{REPLICA}{app}#"
    if not actor.startswith(prefix):
        return "", ""
    deployment, _, replica = actor.removeprefix(prefix).rpartition("#")
    return deployment, replica
