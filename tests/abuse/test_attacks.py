"""Whoever attacks, the others do not notice, and every answer is ours.

The client that behaves is measured alone and beside the attack by turns, in the same test.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import psutil
import pytest

from bench.family import HAPROXY
from bench.outcome import foreign
from tests.abuse.attacks import ATTACKS
from tests.abuse.conftest import BODY_S
from tests.abuse.neighbour import PATIENCE_S, ROUNDS, Neighbour, attacking
from tests.support.waiting import until
from tests.support.whole import Whole

pytestmark = [pytest.mark.abuse, pytest.mark.ray]
HEADERS_S = 10.0
SLACK_S = 3.0
DEADLINES = {"slow bodies": BODY_S}
"""Seconds until a request that is never complete is ended; else HEADERS_S."""


@pytest.fixture(autouse=True)
def _at_rest(server: Whole) -> Iterator[None]:
    """Afterwards nothing of the attack is left: no request is counted, no connection is held."""
    yield

    def quiet() -> bool:
        views = server.every_ingress()
        return bool(views) and not any(v["running"] or v["queue_depth"] for v in views)

    until(quiet, "no ingress counts a request", seconds=30)

    def open_now() -> list[str]:
        return [
            f"{process.pid} {connection.status} {connection.raddr}"
            for process in server.family.of(HAPROXY)
            for connection in process.net_connections("tcp")
            # A client that left in the middle of a request leaves a CLOSE_WAIT where nobody looks.
            if connection.status != psutil.CONN_LISTEN and connection.laddr.port == server.port
        ]

    until(lambda: len(open_now()) < 10, f"no connection is open of {open_now()[:5]}", seconds=30)


def _judged(name: str, report: dict[str, Any]) -> list[str]:
    """What the attacker was told that is not as it should be."""
    attack = ATTACKS[name]
    broke = [f"the attacker got {why}" for why in report["foreign"]]
    strange = {status for status in report["answers"] if int(status) not in attack.expected}
    broke += [f"the attacker got {report['answers'][s]} answers with {s}" for s in strange]
    answered = report["answers"] or report["closed"] or attack.hangs_up or attack.stalls
    return broke if answered else [*broke, f"no answer reached the attacker: {report}"]


@pytest.mark.parametrize("name", ATTACKS)
def test_the_others_do_not_notice(server: Whole, name: str) -> None:
    attack = ATTACKS[name]
    neighbour = Neighbour(server.url)
    neighbour.ask([])  # what is new to the server costs once
    broke: list[str] = []
    with attacking(server.port, name) as attacker:
        for round_ in range(ROUNDS):
            neighbour.ask(neighbour.alone_s)
            attacker.go()
            neighbour.ask(neighbour.beside_s)
            last = attack.stalls and round_ == ROUNDS - 1
            report = attacker.outlast() if last else attacker.stop()
            broke += _judged(name, report)
            if last:
                deadline = DEADLINES.get(name, HEADERS_S) + SLACK_S
                if report["open"] or report["longest_s"] > deadline:
                    broke.append(
                        f"{report['open']} half requests are open after a long while, others were "
                        f"for {report['longest_s']:.1f} s"
                    )
    if why := neighbour.slower():
        broke.append(why)
    broke = list(dict.fromkeys([*broke, *neighbour.failed]))
    assert not broke, "\n".join(broke)


def test_half_requests_from_the_address_of_the_others(server: Whole) -> None:
    """There the server cannot tell who is who: it stays reachable, and says how it is."""
    with (
        attacking(server.port, "half requests", "127.0.0.1") as attacker,
        httpx.Client(base_url=server.url, timeout=PATIENCE_S, trust_env=False) as client,
    ):
        attacker.go()
        for _ in range(5):
            answer = client.get("/healthz", headers={"connection": "close"})
            assert foreign(answer.status_code, answer.headers, answer.content) is None
            assert answer.status_code == 200
        report = attacker.outlast()
        assert client.get("/v1/models").status_code == 200
    assert _judged("half requests", report) == []
    assert report["open"] == 0
    assert report["longest_s"] <= HEADERS_S + SLACK_S


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/healthz", "/v1/models"])
def test_rebinding(server: Whole, path: str) -> None:
    """A web page whose name was bound to this machine's address reaches nothing."""
    for host in (f"evil.example:{server.port}", "evil.example", "127.0.0.1.evil.example"):
        headers = {"host": host, "origin": f"http://{host}"}
        body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
        if "chat" in path:
            answer = httpx.post(server.url + path, json=body, headers=headers, trust_env=False)
        else:
            answer = httpx.get(server.url + path, headers=headers, trust_env=False)
        assert foreign(answer.status_code, answer.headers, answer.content) is None
        assert answer.status_code == 403, (host, answer.text)
        assert answer.json()["error"]["code"] == "host_not_allowed"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_names_of_this_machine(server: Whole, host: str) -> None:
    for name in (host, f"{host}:{server.port}"):
        answer = httpx.get(f"{server.url}/v1/models", headers={"host": name}, trust_env=False)
        assert answer.status_code == 200, answer.text
