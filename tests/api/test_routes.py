"""Routes, methods, request ids, browsers."""

from __future__ import annotations

import httpx
import pytest

from llm_serve.errors import NoModel, NoRoute, WrongMethod
from tests.support.client import CHAT, TEXT, Api, refused
from tests.support.inprocess import serving

READ = ("/healthz", "/v1/models", "/v1/models/echo/a", "/openapi.json")
WRITE = (CHAT, TEXT)


@pytest.mark.parametrize("path", READ)
def test_reading_routes_answer(api: Api, path: str) -> None:
    assert api.get(path).status_code == 200
    assert api.request("HEAD", path).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1",
        "/v1/",
        "/v1/chat",
        "/v1/audio/speech",
        "/v2/models",
        "/healthz/x",
        "/docs",
        "/%00",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_an_unknown_path_is_404(api: Api, method: str, path: str) -> None:
    assert "/openapi.json" in refused(api.request(method, path), NoRoute)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "X"])
@pytest.mark.parametrize("path", READ)
def test_another_method_on_a_reading_route_is_405(api: Api, path: str, method: str) -> None:
    response = api.request(method, path)
    refused(response, WrongMethod)
    assert set(response.headers["allow"].split(", ")) == {"GET", "HEAD"}


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", WRITE)
def test_another_method_on_a_generating_route_is_405(api: Api, path: str, method: str) -> None:
    response = api.request(method, path)
    assert response.status_code == 405
    assert response.headers["allow"] == "POST"


@pytest.mark.parametrize("path", ["/healthz/", "/v1/models/", "/v1/chat/completions/"])
def test_a_trailing_slash_is_another_path(api: Api, path: str) -> None:
    """And not a redirect to wherever the Host header says."""
    refused(api.get(path), NoRoute)


@pytest.mark.parametrize(
    "model_id", ["nope", "echo", "echo/a/b", "%F0%9F%98%80", "a%2Fb", "x" * 999]
)
def test_an_unknown_model_id_is_refused_with_those_that_are_served(api: Api, model_id: str) -> None:
    for response in (
        api.get(f"/v1/models/{model_id}"),
        api.post(f"/v1/models/{model_id}/load", {}),
        api.post(f"/v1/models/{model_id}/unload", {}),
    ):
        message = refused(response, NoModel, "model_id")
        assert "echo/a, echo/b" in message
        assert len(message) < 400


def test_a_model_id_may_be_quoted(api: Api) -> None:
    """openai-python sends the slash of an id as %2F."""
    assert api.get("/v1/models/echo%2Fa").json()["id"] == "echo/a"


def test_models_are_listed_in_order_with_what_they_can_do(api: Api) -> None:
    listed = api.get("/v1/models").json()["data"]
    assert [m["id"] for m in listed] == ["echo/a", "echo/b"]
    assert [m["default"] for m in listed] == [True, False]
    for model in listed:
        assert (model["status"], model["loaded"], model["backend"]) == ("ready", True, "echo")
        assert model["capabilities"]["n"] is True
        assert model["capabilities"]["embeddings"] is False
        assert model["context_length"] == 8192
        assert api.get(f"/v1/models/{model['id']}").json() == model


def test_health_has_the_guides_fields(api: Api) -> None:
    assert api.health() == {
        "status": "ok",
        "loaded": True,
        "model_id": "echo/a",
        "inference_backend": "echo",
        "queue_depth": 0,
        "running": 0,
        "switch_in_progress": False,
        "switch_target_model": None,
    }


@pytest.mark.parametrize("given", ["abc", "A-1_2.3:4", "x" * 128, "0"])
def test_a_request_id_is_given_back(api: Api, given: str) -> None:
    for response in (
        api.get("/healthz", headers={"x-request-id": given}),
        api.get("/nope", headers={"x-request-id": given}),
        api.chat("hi", stream=True),
    ):
        assert response.status_code in (200, 404)
    response = api.get("/healthz", headers={"x-request-id": given})
    assert response.headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", " ", "x" * 129, "a b", "a,b", "é", "<script>", None])
def test_a_bad_or_missing_request_id_is_replaced(api: Api, given: str | None) -> None:
    headers = {} if given is None else {"x-request-id": given.encode()}
    seen = {api.get("/healthz", headers=headers).headers["x-request-id"] for _ in range(3)}
    assert len(seen) == 3
    assert given not in seen


ORIGIN = "https://chat.example"
PREFLIGHT = {"origin": ORIGIN, "access-control-request-method": "POST"}


def test_without_cors_origins_a_browser_gets_no_leave(api: Api) -> None:
    response = api.get("/v1/models", headers={"origin": ORIGIN})
    assert not [name for name in response.headers if name.startswith("access-control")]
    refused(api.request("OPTIONS", CHAT, headers=PREFLIGHT), WrongMethod)


def test_a_listed_origin_may_call_and_read_even_the_errors() -> None:
    with serving(cors_origins=[ORIGIN], keys=("key",)) as api:
        asked = {**PREFLIGHT, "access-control-request-headers": "authorization,content-type"}
        preflight = api.client.request("OPTIONS", CHAT, headers=asked)
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == ORIGIN
        assert "authorization" in preflight.headers["access-control-allow-headers"]
        assert preflight.headers["x-request-id"]
        refusal = api.get("/v1/models", headers={"origin": ORIGIN})
        assert refusal.status_code == 401
        assert refusal.headers["access-control-allow-origin"] == ORIGIN
        exposed = refusal.headers["access-control-expose-headers"]
        assert {"x-request-id", "retry-after"} <= set(exposed.split(", "))


def test_another_origin_gets_no_leave() -> None:
    with serving(cors_origins=[ORIGIN]) as api:
        other = {**PREFLIGHT, "origin": "https://evil.example"}
        assert "access-control-allow-origin" not in _options(api, other).headers
        answer = api.get("/v1/models", headers={"origin": "https://evil.example"})
        assert "access-control-allow-origin" not in answer.headers


def _options(api: Api, headers: dict[str, str]) -> httpx.Response:
    response = api.client.request("OPTIONS", CHAT, headers=headers)
    assert response.headers["x-request-id"]
    return response


@pytest.mark.parametrize("backend", ["echo", "vllm"])
def test_openapi_lists_exactly_the_routes(backend: str) -> None:
    from llm_serve.api.app import create_app
    from llm_serve.api.schemas.openapi import document
    from llm_serve.config import Config
    from tests.support.local_gateway import LocalGateway

    config = Config.model_validate({"models": [{"id": "m", "backend": backend}]})
    served = {
        (route.path.replace(":path}", "}"), method)
        for route in create_app(config, LocalGateway(config)).routes
        for method in route.methods
        if method != "HEAD"  # which GET implies
    }
    described = {
        (path, method.upper())
        for path, operations in document(extended=backend == "vllm")["paths"].items()
        for method in operations
    }
    assert served == described
