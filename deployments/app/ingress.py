"""The ingress: the API's app over a gateway to the models' handles."""

from __future__ import annotations

import os
import time

from ray import serve
from ray.serve.handle import DeploymentHandle
from starlette.applications import Starlette

from deployments.app.admission import Admission
from deployments.app.director_client import DirectorClient
from deployments.app.gateway import HandleGateway
from llm_serve.api.app import create_app
from llm_serve.config import Config
from llm_serve.config.api_keys import read_keys
from llm_serve.models.kind import with_kinds


@serve.ingress()
class Ingress:
    """One process that takes requests; there may be several."""

    def __init__(self, config: Config, models: dict[str, DeploymentHandle]) -> None:
        self._config = config
        self._keys = read_keys(config.server.api_key_file)
        admission = {m.id: Admission(m, config.server.ingress_replicas) for m in config.models}
        context = serve.get_replica_context()
        name = context.replica_id.unique_id
        director = DirectorClient(context.app_name, name, config, admission)
        self._gateway = HandleGateway(config, models, director, admission, int(time.time()))

    def __serve_build_asgi_app__(self) -> Starlette:
        bind = os.environ.get("LLM_SERVE_HOST")
        return create_app(with_kinds(self._config), self._gateway, self._keys, bind)
