"""The routes of the guide as a Starlette app over a `Gateway`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from llm_serve.api import views
from llm_serve.api.gateway import Gateway
from llm_serve.api.hold_policy import hold_for
from llm_serve.api.middleware import AccessControl, RequestIds
from llm_serve.api.parsing.allowlist import Fields, unknown_model
from llm_serve.api.parsing.body import read_body
from llm_serve.api.parsing.by_engine import CHAT, TEXT
from llm_serve.api.parsing.embeddings import (
    EMBEDDINGS,
    RERANK,
    parse_embedding,
    parse_rerank,
)
from llm_serve.api.parsing.messages.parse import COUNT, MESSAGES, parse_count, parse_messages
from llm_serve.api.parsing.parse import parse_chat, parse_completion, read_object
from llm_serve.api.parsing.tokens import (
    DETOKENIZE,
    TOKENIZE,
    parse_detokenize,
    parse_tokenize,
)
from llm_serve.api.responses import (
    GenerationResponse,
    error_response,
    json_response,
    loading_response,
    path_of,
)
from llm_serve.api.schemas.openapi import document
from llm_serve.api.schemas.operations import operations
from llm_serve.api.status_stream import EventStream
from llm_serve.api.stored_responses import ResponseRoutes
from llm_serve.backends import CAPABILITIES
from llm_serve.config import Config, ModelConfig
from llm_serve.errors import NoModel, NoRoute, RequestTimeout, ServeError, WrongMethod
from llm_serve.generation.request import GenerationRequest

Endpoint = Callable[[Request], Awaitable[Response]]
Parse = Callable[[Fields, Config], GenerationRequest]
PARSERS: dict[str, Parse] = {
    CHAT: parse_chat,
    TEXT: parse_completion,
    EMBEDDINGS: parse_embedding,
    RERANK: parse_rerank,
    MESSAGES: parse_messages,
    COUNT: parse_count,
    TOKENIZE: parse_tokenize,
    DETOKENIZE: parse_detokenize,
}
"""What makes a request to a model of a body, by route."""
_OF_BETAS: dict[Parse, Parse] = {
    parse_messages: partial(parse_messages, beta=True),
    parse_count: partial(parse_count, beta=True),
}
"""For clients with the header `anthropic-beta`."""


def create_app(
    config: Config, gateway: Gateway, keys: tuple[str, ...] = (), bind: str | None = None
) -> Starlette:
    """The app. `keys` are the accepted API keys; none means that no key is asked for. `bind` is the
    address that the server listens on, None where that is not known."""

    extended = any(CAPABILITIES[model.backend].extensions for model in config.models)

    def named(request: Request) -> ModelConfig:
        """The model that the path names, or the one whose adapter it is."""
        model_id = request.path_params["model_id"]
        model = config.model(model_id)
        if model is None:
            raise NoModel(unknown_model(model_id, config), param="model_id")
        return model

    async def healthz(request: Request) -> Response:
        return json_response(views.health(config, gateway.status()))

    async def models(request: Request) -> Response:
        return json_response(views.model_list(config, gateway.status()))

    async def model(request: Request) -> Response:
        model_id = request.path_params["model_id"]
        if not model_id:
            raise HTTPException(NoRoute.status)
        named(request)
        return json_response(views.one_model(config, gateway.status(), model_id))

    async def load(request: Request) -> Response:
        model_id = named(request).id
        loading = await gateway.load(model_id)
        if loading is not None:
            return loading_response(loading)
        return json_response(views.one_model(config, gateway.status(), model_id))

    async def unload(request: Request) -> Response:
        model_id = named(request).id
        await gateway.unload(model_id)
        return json_response(views.one_model(config, gateway.status(), model_id), 202)

    async def events(request: Request) -> Response:
        return EventStream(config, gateway)

    async def openapi(request: Request) -> Response:
        return json_response(document(extended))

    def generate(parse: Parse) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            body = await read_body(request, config.server)
            fields = read_object(body)
            await asyncio.sleep(0)  # others' turn
            parser = _OF_BETAS.get(parse, parse) if "anthropic-beta" in request.headers else parse
            generation = parser(fields, config)
            hold = hold_for(request.headers, config.cold_start, path_of(request.scope))
            return GenerationResponse(gateway, generation, hold, config.server.inference_timeout_s)

        return endpoint

    responses = ResponseRoutes(config, gateway, bool(keys))
    endpoints: dict[str, Endpoint] = {
        "/healthz": healthz,
        "/v1/models": models,
        "/v1/models/{model_id}": model,
        "/v1/models/{model_id}/load": load,
        "/v1/models/{model_id}/unload": unload,
        "/v1/events": events,
        "/openapi.json": openapi,
        "/v1/responses": responses.create,
        "/v1/responses/{response_id}": responses.stored,
        **{path: generate(parse) for path, parse in PARSERS.items()},
    }
    # CORS lies between, so that a browser may read the refusals, and a preflight needs no key.
    middleware = [
        Middleware(RequestIds),
        Middleware(
            AccessControl,
            keys=keys,
            origins=config.server.cors_origins,
            bind=bind,
            hosts=config.server.allowed_hosts,
        ),
    ]
    if config.server.cors_origins:
        cors = Middleware(
            CORSMiddleware,
            allow_origins=list(config.server.cors_origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["*"],
            expose_headers=["x-request-id", "retry-after"],
        )
        middleware.insert(1, cors)
    methods: dict[str, list[str]] = {}
    for operation in operations(extended):
        methods.setdefault(operation.path, []).append(operation.method)
    app = Starlette(
        routes=[
            Route(path.replace("{model_id}", "{model_id:path}"), endpoints[path], methods=of_path)
            for path, of_path in methods.items()
        ],
        middleware=middleware,
        exception_handlers={ServeError: _serve_error, HTTPException: _http_error},
    )
    app.router.redirect_slashes = False  # a redirect would be built from the Host header
    return app


async def _serve_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServeError)
    # What is left of a body that came too slowly is not waited for.
    headers = {"connection": "close"} if isinstance(error, RequestTimeout) else None
    return error_response(error, headers, path_of(request.scope))


async def _http_error(request: Request, error: Exception) -> Response:
    """Starlette's own refusals: an unknown path or method."""
    assert isinstance(error, HTTPException)
    path = request.url.path[:200]
    if error.status_code == WrongMethod.status:
        allowed = (error.headers or {}).get("Allow", "")
        return error_response(
            WrongMethod(f"{path} does not take {request.method}; it takes {allowed}."),
            {"allow": allowed},
            path_of(request.scope),
        )
    error = NoRoute(f"There is no {path}. /openapi.json lists every route.")
    return error_response(error, path=path_of(request.scope))
