"""What a body may be before its fields are looked at, and what each wrong one is told."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from llm_serve.errors import BodyTooLarge, InvalidRequest
from tests.support.client import CHAT, TEXT, Api, refused, user
from tests.support.inprocess import serving

GOOD = json.dumps({"messages": user("hi")}).encode()


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b" ", b"{", b"nonsense", b'{"messages": [}', GOOD + b"x", GOOD[:-1], b"\x00"),
        *(b"\xff\xfe{}", b"{'messages': []}", b'{"messages": "\xff"}', b'\xef\xbb\xbf{"a": 1'),
        *(b'{"messages": [{"role": "user", "content": "\\ud800"}]}', b'{"\\udfff": 1}'),
        *(b"[" * 100_000, b'{"a":' * 5000, b'{"messages": ' + b"[" * 5000 + b"]" * 5000 + b"}"),
    ],
    ids=lambda body: repr(body[:24]),
)
@pytest.mark.parametrize("path", [CHAT, TEXT])
def test_what_is_not_json_is_refused(api: Api, path: str, body: bytes) -> None:
    message = refused(api.post(path, body), InvalidRequest)
    assert message.startswith("The body is not valid JSON")


@pytest.mark.parametrize("body", [b"[]", b"null", b"1", b'"text"', b"true", b"[{}]"])
def test_json_that_is_no_object_is_refused(api: Api, body: bytes) -> None:
    assert refused(api.post(CHAT, body), InvalidRequest) == "The body must be a JSON object."


@pytest.mark.parametrize(
    "media_type",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", "json"],
)
def test_another_media_type_is_refused(api: Api, media_type: str) -> None:
    """A page in a browser may send these to a loopback server without asking; JSON it may not."""
    response = api.post(CHAT, GOOD, headers={"content-type": media_type})
    assert "Content-Type: application/json" in refused(response, InvalidRequest)


@pytest.mark.parametrize(
    "media_type",
    ["application/json; charset=utf-8", "APPLICATION/JSON", "application/json ;x=y"],
)
def test_json_by_any_spelling_is_accepted(api: Api, media_type: str) -> None:
    assert api.post(CHAT, GOOD, headers={"content-type": media_type}).status_code == 200


@pytest.fixture(scope="module")
def narrow() -> Iterator[Api]:
    """A server that takes bodies of one KiB."""
    with serving(max_body_mb=1 / 1024) as api:
        yield api


def _sized(size: int) -> bytes:
    body = json.dumps({"messages": user("")}).encode()
    return body.replace(b'""', b'"' + b"x" * (size - len(body)) + b'"')


def test_a_body_at_the_limit_is_accepted(narrow: Api) -> None:
    assert len(_sized(1024)) == 1024
    assert narrow.post(CHAT, _sized(1024)).status_code == 200


@pytest.mark.parametrize("path", [CHAT, TEXT])
def test_a_body_past_the_limit_is_refused_by_its_declared_length(narrow: Api, path: str) -> None:
    message = refused(narrow.post(path, _sized(1025)), BodyTooLarge)
    assert "server.max_body_mb" in message


def test_a_body_past_the_limit_is_refused_without_a_declared_length(narrow: Api) -> None:
    sent: list[int] = []

    def chunks() -> Iterator[bytes]:
        for part in range(100):
            sent.append(part)
            yield b" " * 512

    response = narrow.request(
        "POST", CHAT, content=chunks(), headers={"content-type": "application/json"}
    )
    refused(response, BodyTooLarge)
    assert len(sent) < 10, "it read on after it knew"


@pytest.mark.parametrize("declared", ["²", "-1", "ten", "1e9", "9" * 400, ""])
def test_a_content_length_that_is_no_number_is_harmless(api: Api, declared: str) -> None:
    """Servers in front refuse these; the app must not stumble when one does not."""
    headers = {"content-type": "application/json", "content-length": declared.encode("latin-1")}
    response = api.request("POST", CHAT, content=GOOD, headers=headers)
    assert response.status_code == (413 if declared == "9" * 400 else 200)
