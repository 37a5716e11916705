"""The door: whoever connects while HAProxy, its manager or all of Ray is away gets an answer of
ours. HAProxy is real, and so is the configuration that Ray writes for it."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import httpx
import pytest

from deployments.door.door import DoorThread
from llm_serve.errors import NotReady
from llm_serve.host.ports import PortTaken
from tests.door.conftest import STARTING, StandIn, haproxies
from tests.support.client import check, refused
from tests.support.waiting import until


def _get(port: int, path: str = "/v1/models") -> httpx.Response:
    return check(httpx.get(f"http://127.0.0.1:{port}{path}", timeout=10))


def _dead(process: object) -> bool:
    return process.poll() is not None  # type: ignore[attr-defined]


def test_before_ray_is_up_every_request_is_told_so(door: DoorThread, port: int) -> None:
    for path in ("/healthz", "/v1/models", "/-/healthz", "/nowhere"):
        assert refused(_get(port, path), NotReady) == STARTING


def test_ray_hands_over_and_takes_back(
    door: DoorThread, port: int, ingress: int, stand_in: StandIn
) -> None:
    first = stand_in()
    assert refused(_get(port), NotReady), "a manager that starts knows no application"
    second = stand_in(ingress)
    until(lambda: _dead(first), "the stand-in that was replaced ends")
    assert _get(port).json() == {"status": "ok"}
    third = stand_in()
    assert _get(port).json() == {"status": "ok"}, "a manager that starts anew takes nothing away"
    door.close("Ray restarts.")
    assert refused(_get(port), NotReady) == "Ray restarts."
    until(lambda: _dead(second) and _dead(third), "no stand-in outlives its HAProxy")


def test_nobody_is_refused_while_haproxy_dies(
    door: DoorThread, port: int, ingress: int, stand_in: StandIn
) -> None:
    here = stand_in(ingress)
    stop = threading.Event()
    seen: list[str] = []

    def ask() -> None:
        while not stop.is_set():
            try:
                seen.append(str(_get(port).status_code))
            except httpx.ConnectError:
                seen.append("refused")
            except httpx.TransportError:
                seen.append("cut")

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        (victim,) = until(haproxies, "HAProxy runs")[-1:]
        victim.kill()
        before = len(seen)
        until(lambda before=before: len(seen) > before + 20, "answers go on")
    stop.set()
    for thread in threads:
        thread.join()
    assert set(seen) <= {"200", "cut"}
    assert seen.count("cut") <= 5 * 4, "only what the victim carried"
    assert here.poll() is None, "Ray does not notice"


def test_the_death_of_a_stand_in_ends_no_stream(
    door: DoorThread, port: int, ingress: int, stand_in: StandIn
) -> None:
    here = stand_in(ingress)
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"GET /silent HTTP/1.1\r\nHost: localhost\r\n\r\n")
        here.kill()
        here.wait()
        assert _get(port).json() == {"status": "ok"}
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):  # neither an answer nor an end
            client.recv(1)


def test_a_configuration_that_haproxy_refuses_changes_nothing(
    door: DoorThread, port: int, ingress: int, folder: Path, stand_in: StandIn
) -> None:
    stand_in(ingress)
    (folder / "ray" / "state").mkdir()  # a file that HAProxy cannot read is no reason
    assert _get(port).json() == {"status": "ok"}
    broken = folder / "broken.cfg"
    text = (folder / "ray" / "haproxy.cfg").read_text()
    broken.write_text(text.replace("    balance ", "    no such keyword "))
    with socket.socket(socket.AF_UNIX) as control:
        control.connect(str(door.control))
        control.sendall(b'{"config": "%s"}\n' % str(broken).encode())
        assert b"unknown keyword" in control.makefile("rb").readline()
    assert _get(port).json() == {"status": "ok"}


def test_a_changed_template_is_said_loudly(
    door: DoorThread, port: int, folder: Path, stand_in: StandIn
) -> None:
    file = folder / "other.cfg"
    file.write_text("global\ndefaults\nfrontend another_name\n  bind :1\n")
    with socket.socket(socket.AF_UNIX) as control:
        control.connect(str(door.control))
        control.sendall(b'{"config": "%s"}\n' % str(file).encode())
        assert b"written for Ray" in control.makefile("rb").readline()
    assert refused(_get(port), NotReady) == STARTING


def test_a_port_that_is_taken_is_said_at_once(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(PortTaken, match="in use"):
        DoorThread(folder, "127.0.0.1", other.getsockname()[1])


def test_a_door_is_idle_once_no_answer_is_under_way(
    door: DoorThread, port: int, ingress: int, stand_in: StandIn
) -> None:
    stand_in(ingress)
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"GET /silent HTTP/1.1\r\nHost: localhost\r\n\r\n")
        until(lambda: not door.idle(0.05), "a request is under way")
        assert _get(port).json() == {"status": "ok"}
    assert door.idle(10), "its client left"
