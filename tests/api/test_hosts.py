"""Under which names a server on loopback may be called: a page may bind its own to 127.0.0.1."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from llm_serve.errors import ForeignHost, NoRoute
from tests.support.client import Api, refused
from tests.support.inprocess import echo, serving

OURS = [
    *("localhost", "localhost:11424", "LocalHost:1", "localhost.", "a.b.localhost:80"),
    *("127.0.0.1", "127.0.0.1:11424", "127.8.9.10:1", "[::1]", "[::1]:11424", ""),
]
FOREIGN = [
    *("evil.example", "evil.example:11424", "localhost.evil.example", "127.0.0.1.evil.example"),
    *("notlocalhost", "0.0.0.0:11424", "192.168.1.2", "[2001:db8::1]:80", "[::1].evil.example"),
    *("127.0.0.1@evil.example", "evil.example:localhost", "localhost:80:evil.example"),
]


@pytest.fixture(scope="module")
def private() -> Iterator[Api]:
    with serving(echo(), bind="127.0.0.1", allowed_hosts=("Box.Lan",)) as api:
        yield api


@pytest.mark.parametrize("host", [*OURS, "box.lan", "BOX.lan:8080"])
def test_a_loopback_server_answers_to_its_own_names(private: Api, host: str) -> None:
    assert private.get("/healthz", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", FOREIGN)
def test_a_loopback_server_answers_to_no_other_name(private: Api, host: str) -> None:
    """With the Origin of the same page, which is then of the same origin."""
    headers = {"host": host, "origin": f"http://{host}", "x-llm-serve-bind": "open"}
    for path in ("/healthz", "/v1/models", "/openapi.json", "/nowhere", "/v1/events"):
        message = refused(private.get(path, headers=headers), ForeignHost)
        assert "server.allowed_hosts" in message
    refused(private.post("/v1/chat/completions", b"{}", headers=headers), ForeignHost)


def test_one_of_two_host_headers_is_foreign(private: Api) -> None:
    headers = [("host", "localhost"), ("host", "evil.example")]
    refused(private.get("/healthz", headers=headers), ForeignHost)


@pytest.mark.parametrize("bind", ["localhost", "127.0.0.2", "::1", "[::1]"])
def test_every_way_to_name_loopback_is_private(bind: str) -> None:
    with serving(bind=bind) as api:
        refused(api.get("/healthz", headers={"host": "evil.example"}), ForeignHost)


@pytest.mark.parametrize("bind", ["0.0.0.0", "::", "192.168.1.2", "box.lan", None])
def test_who_listens_to_other_machines_has_names_that_it_cannot_know(bind: str | None) -> None:
    with serving(bind=bind) as api:
        assert api.get("/healthz", headers={"host": "evil.example"}).status_code == 200
        refused(api.get("/nowhere", headers={"host": "evil.example"}), NoRoute)
        door = {"host": "evil.example", "x-llm-serve-bind": "loopback"}
        refused(api.get("/healthz", headers=door), ForeignHost)


def test_any_name_where_the_operator_says_so_or_a_key_is_asked_for() -> None:
    foreign = {"host": "evil.example"}
    with serving(bind="127.0.0.1", allowed_hosts=("*",)) as api:
        assert api.get("/healthz", headers=foreign).status_code == 200
    with serving(bind="127.0.0.1", keys=("k",)) as api:
        assert api.get("/healthz", headers=foreign).status_code == 200
