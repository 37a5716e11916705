"""HTTP itself behind HAProxy: methods, headers, request ids, paths, broken requests."""

from __future__ import annotations

import json

import pytest

from llm_serve.errors import InvalidRequest, NoRoute, WrongMethod
from tests.support.client import CHAT, Api, refused, user
from tests.support.raw import exchange

pytestmark = pytest.mark.ray


@pytest.mark.parametrize(
    "path", ["/healthz", "/v1/models", "/v1/models/echo/fast", "/openapi.json"]
)
def test_head_is_get_without_a_body(server: Api, path: str) -> None:
    whole, head = server.get(path), server.request("HEAD", path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == whole.headers["content-type"]


def test_wrong_methods_and_paths(server: Api) -> None:
    response = server.request("OPTIONS", CHAT)
    refused(response, WrongMethod)
    assert response.headers["allow"] == "POST"
    refused(server.request("DELETE", "/v1/models"), WrongMethod)
    refused(server.get("/v1/nope"), NoRoute)
    refused(server.get("/"), NoRoute)
    refused(server.get("/-/nope"), NoRoute)


@pytest.mark.parametrize("given", ["abc-1", "x" * 128])
def test_a_request_id_is_given_back_once(server: Api, given: str) -> None:
    headers = {"x-request-id": given}
    for response in (
        server.get("/healthz", headers=headers),
        server.get("/nope", headers=headers),
        server.post(CHAT, {"messages": user("a"), "stream": True}, headers=headers),
    ):
        assert response.headers.get_list("x-request-id") == [given]


@pytest.mark.parametrize("given", [b"", b"x" * 129, b"a b", b"\xff\xfe", "é".encode(), b"<b>"])
def test_a_bad_request_id_is_replaced(server: Api, given: bytes) -> None:
    """Ray Serve would echo it as it stands, and fail on bytes that are not UTF-8."""
    response = server.get("/healthz", headers={"x-request-id": given})
    assert response.status_code == 200
    assert response.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize(
    "name", ["serve_multiplexed_model_id", "x-request-timeout-seconds", "authorization", "x-any"]
)
def test_header_bytes_that_are_not_utf8_do_no_harm(server: Api, name: str) -> None:
    assert server.chat("hi").status_code == 200
    response = server.post(CHAT, {"messages": user("hi")}, headers={name: b"\xff\xfe"})
    assert response.status_code == 200


def test_several_requests_written_at_once_are_answered_in_order(server: Api) -> None:
    get = "GET /v1/models/{} HTTP/1.1\r\nHost: localhost\r\n{}\r\n"
    received = exchange(
        server,
        (
            get.format("echo/fast", "")
            + get.format("echo/slow", "")
            + get.format("echo/one", "Connection: close\r\n")
        ).encode(),
    )
    places = [received.index(b'"id":"echo/' + name) for name in (b"fast", b"slow", b"one")]
    assert places == sorted(places)
    assert received.count(b"HTTP/1.1 200") == 3


def test_expect_continue_is_answered(server: Api) -> None:
    """curl sends it with bodies above a MiB and waits a second for it."""
    body = json.dumps({"messages": user("hi")}).encode()
    received = exchange(
        server,
        f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n".encode()
        + body,
    )
    assert received.startswith(b"HTTP/1.1 100")
    assert b"HTTP/1.1 200" in received


@pytest.mark.parametrize("path", ["/v1/models/%ED%A0%80", "/v1/models/%00", "/v1/models/a%0d%0ab"])
def test_odd_paths_are_refused_and_not_failed(server: Api, path: str) -> None:
    assert server.get(path).status_code in (400, 404)


def test_compressed_bodies_are_refused(server: Api) -> None:
    import gzip

    body = gzip.compress(json.dumps({"messages": user("hi")}).encode())
    response = server.post(CHAT, body, headers={"content-encoding": "gzip"})
    refused(response, InvalidRequest)
