"""What the harness of the faults takes for ours, for a gap, and for a broken promise."""

from __future__ import annotations

import json

import httpx
import pytest

from bench.family import HAPROXY, INGRESS, MODEL, model_in
from bench.outcome import CUT, FOREIGN, REFUSED, TIMEOUT, foreign, stream_end
from bench.steady import Seen
from llm_serve.errors import NotReady, RequestTimeout, ServeError
from llm_serve.wire import error_body
from tests.chaos.faults import Faults, Kill
from tests.chaos.traffic import LEFT, Ended, violations
from tests.support.errors import every_error

ID = {"x-request-id": "req_1"}
JSON = {**ID, "content-type": "application/json"}
LATE = json.dumps(error_body(RequestTimeout("No."))).encode()


def _why(status: int, headers: dict[str, str], body: bytes) -> str | None:
    return foreign(status, httpx.Headers(headers), body)


@pytest.mark.parametrize("kind", every_error(), ids=lambda kind: kind.__name__)
def test_every_error_of_ours_is_ours(kind: type[ServeError]) -> None:
    waits = {"retry-after": "2"} if kind.status in (429, 503) else {}
    body = json.dumps(error_body(kind("No."))).encode()
    assert _why(kind.status, {**JSON, **waits}, body) is None


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (404, {**ID, "content-type": "text/plain"}, b"Path '/v1/models' not found."),
        (503, {"content-type": "text/html"}, b"<html><body>503</body></html>"),
        (
            408,
            {"content-type": "application/json"},
            json.dumps(error_body(RequestTimeout("No."))).encode(),
        ),
        (503, JSON, json.dumps(error_body(NotReady("No."))).encode()),
        (500, JSON, b'{"error": "Internal Server Error"}'),
        (408, JSON, json.dumps(error_body(NotReady("No."))).encode()),
        (202, JSON, b"{}"),
        (301, JSON, b"{}"),
    ],
    ids=["Ray", "HAProxy", "no id", "no Retry-After", "no object", "kind", "202", "redirect"],
)
def test_what_others_say_is_foreign(status: int, headers: dict[str, str], body: bytes) -> None:
    assert _why(status, headers, body) is not None


def test_how_a_stream_ended() -> None:
    frame = b'data: {"choices": []}\n\n'
    error = b'data: {"error": {"code": "engine_died"}}\n\n'
    assert stream_end(frame + b"data: [DONE]\n\n") == "200"
    assert stream_end(frame + error) == "engine_died"
    assert stream_end(frame) == CUT
    assert stream_end(frame + b'data: {"error": "boom"}\n\n') == FOREIGN


def test_the_worst_gap_counts_from_the_start_and_to_the_end() -> None:
    assert Seen(begin=0, end=10, good=[1, 2, 9]).worst_gap() == (7, True)
    assert Seen(begin=0, end=10, good=[3, 4]).worst_gap() == (6, False)
    assert Seen(begin=0, end=10).worst_gap() == (10, False)


def test_titles_of_replicas() -> None:
    assert model_in("ray::ServeReplica:llm-serve:Model.echo~2Fa") == "echo/a"
    assert model_in("ray::SERVE_REPLICA::llm-serve#Model.echo~2Fa#xy1") == "echo/a"
    assert model_in("ray::ServeReplica:llm-serve:Ingress") is None
    assert model_in("ray::ServeReplica:another:Model.echo~2Fa") is None


def _faults(*kills: Kill) -> Faults:
    faults = Faults(None, None, 0, [], print)  # type: ignore[arg-type]
    faults.kills += kills
    return faults


def _kill(at: float, who: str) -> Kill:
    return Kill(at, who, at, frozenset({who}))


def _ended(kind: str, begin: float, end: float, *, opened: bool = False) -> Ended:
    return Ended(begin, end, "a chat", kind, opened=opened)


@pytest.mark.parametrize(
    ("request_", "kill", "excused"),
    [
        (_ended(CUT, 1, 5), _kill(4.9, HAPROXY), True),
        (_ended(CUT, 1, 5), _kill(2, HAPROXY), False),
        (_ended(CUT, 6, 7), _kill(5, HAPROXY), False),
        (_ended(CUT, 1, 5), _kill(4.9, INGRESS), False),
        (_ended(CUT, 1, 5, opened=True), _kill(4.9, INGRESS), True),
        (_ended(CUT, 1, 5, opened=True), _kill(4.9, MODEL), False),
        (_ended(REFUSED, 1, 5), _kill(4.9, HAPROXY), False),
        (_ended(FOREIGN, 1, 5), _kill(4.9, HAPROXY), False),
        (_ended(TIMEOUT, 1, 5), _kill(4.9, HAPROXY), False),
    ],
)
def test_only_a_cut_by_who_carried_it_is_excused(
    request_: Ended, kill: Kill, excused: bool
) -> None:
    broke, apart = violations([request_], _faults(kill).carried)
    assert (len(broke), len(apart)) == ((0, 1) if excused else (1, 0))


def test_what_is_honest() -> None:
    fine = [_ended(kind, 1, 2) for kind in ("200", "202", "409", "429", "502", "503", "504", LEFT)]
    fine += [_ended(kind, 1, 2, opened=True) for kind in ("200", "engine_died")]
    assert violations(fine, _faults().carried) == ([], [])
    for kind in ("400", "404", "500"):
        assert len(violations([_ended(kind, 1, 2)], _faults().carried)[0]) == 1
    assert len(violations([_ended("internal_error", 1, 2, opened=True)], _faults().carried)[0]) == 1
