"""The names that Ray's actors and deployments have, in both directions."""

from __future__ import annotations

from urllib.parse import quote, unquote

_MODEL = "Model."
_REPLICA = "SERVE_REPLICA::"  # what ReplicaID.to_full_id_str() begins with


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
    prefix = f"{_REPLICA}{app}#"
    if not actor.startswith(prefix):
        return None
    return model_of(actor.removeprefix(prefix).rpartition("#")[0])
