"""API keys: who is let in, and what the others are told."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from llm_serve.errors import ForeignOrigin, MissingKey, WrongKey
from tests.support.client import CHAT, TEXT, Api, refused
from tests.support.inprocess import serving

KEYS = ("sk-first", "sk-zweiter-schlüssel", "sk third")
GUARDED = (("GET", "/v1/models"), ("GET", "/v1/models/echo/a"), ("POST", CHAT), ("POST", TEXT))


@pytest.fixture(scope="module")
def guarded() -> Iterator[Api]:
    with serving(keys=KEYS) as api:
        yield api


def _bearer(key: str) -> dict[str, bytes]:
    return {"authorization": b"Bearer " + key.encode()}


@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_without_a_key_every_model_route_is_401(guarded: Api, method: str, path: str) -> None:
    message = refused(guarded.request(method, path), MissingKey)
    assert "Authorization: Bearer KEY" in message


@pytest.mark.parametrize(
    "header", ["", "sk-first", "Basic sk-first", "Bearer", "Bearer ", "Bearer  "]
)
def test_a_header_without_a_bearer_key_counts_as_none(guarded: Api, header: str) -> None:
    refused(guarded.get("/v1/models", headers={"authorization": header}), MissingKey)


@pytest.mark.parametrize(
    "key", ["sk-firs", "sk-first2", "SK-FIRST", "sk", "é", "sk-first,sk third"]
)
@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_a_wrong_key_is_403_and_not_repeated(
    guarded: Api, method: str, path: str, key: str
) -> None:
    message = refused(guarded.request(method, path, headers=_bearer(key)), WrongKey)
    assert key not in message


@pytest.mark.parametrize("key", KEYS)
def test_each_key_is_accepted(guarded: Api, key: str) -> None:
    assert guarded.get("/v1/models", headers=_bearer(key)).status_code == 200
    assert guarded.chat("hi").status_code == 401
    assert guarded.post(CHAT, {"messages": []}, headers=_bearer(key)).status_code == 400


def test_the_scheme_is_case_insensitive(guarded: Api) -> None:
    headers = {"authorization": "bearer sk-first"}
    assert guarded.get("/v1/models", headers=headers).status_code == 200


@pytest.mark.parametrize("path", ["/healthz", "/openapi.json"])
def test_health_and_the_description_are_open(guarded: Api, path: str) -> None:
    assert guarded.get(path).status_code == 200


@pytest.mark.parametrize("path", ["/v1/nope", "/v1", "/v1/", "//v1/models", "/V1/models", "/x"])
def test_what_is_not_known_to_be_open_wants_a_key(guarded: Api, path: str) -> None:
    """A new route is closed until someone opens it."""
    assert guarded.get(path).status_code == 401


def test_a_key_is_wanted_under_a_route_prefix_too() -> None:
    """Ray Serve mounts an application with `route_prefix` as ASGI's root_path."""

    def mounted(app):
        async def under_prefix(scope, receive, send):
            await app({**scope, "root_path": "/llm"}, receive, send)

        return under_prefix

    with serving(keys=KEYS, wrap=mounted) as api:
        assert api.get("/llm/healthz").status_code == 200
        refused(api.get("/llm/v1/models"), MissingKey)
        assert api.get("/llm/v1/models", headers=_bearer("sk-first")).status_code == 200


def test_every_key_is_compared_whichever_matches(monkeypatch: pytest.MonkeyPatch) -> None:
    """In constant time: how long a refusal takes must not tell which key was nearly right."""
    import hmac

    compared: list[tuple[bytes, bytes]] = []
    real = hmac.compare_digest

    def watched(a: bytes, b: bytes) -> bool:
        compared.append((a, b))
        return real(a, b)

    monkeypatch.setattr("llm_serve.api.middleware.hmac.compare_digest", watched)
    with serving(keys=KEYS) as api:
        for sent in ("sk-first", "nothing"):
            compared.clear()
            api.get("/v1/models", headers=_bearer(sent))
            assert len(compared) == len(KEYS)


@pytest.mark.parametrize("path", ["/v1/models/echo/a/unload", "/v1/models/echo/a/load"])
def test_a_foreign_page_changes_nothing(path: str) -> None:
    """A browser lets any page send such a POST, and says from which one."""
    with serving(cors_origins=["https://chat.example"]) as api:
        foreign = api.request("POST", path, headers={"origin": "https://evil.example"})
        assert "cors_origins" in refused(foreign, ForeignOrigin)
        for origin in ("https://chat.example", str(api.client.base_url).rstrip("/")):
            let_in = api.request("POST", path, headers={"origin": origin})
            assert let_in.json().get("error", {}).get("code") != "origin_not_allowed"
