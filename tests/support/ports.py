"""Ports for servers of tests, so that those of two pytest processes side by side never meet."""

from __future__ import annotations

import itertools
import os
import random
import socket

_PUBLIC = range(20_000, 29_000)
"""Below the ports that the kernel gives to whoever asks for any: between the choice of one and the
start of its server pass seconds, in which the kernel could give it away."""
_INGRESSES = range(30_000, 31_000)
"""Ray Serve's own range, of which each process takes a part. Two servers with the same numbers do
start, but a HAProxy whose ingress has just died would find the other server's at its port."""
_PARTS = 4


def _part(ports: range) -> range:
    """What this process has of them, by the number that pytest-xdist gave it."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _PARTS
    size = len(ports) // _PARTS
    return ports[number * size : (number + 1) * size]


_drawn = itertools.cycle(random.SystemRandom().sample(_part(_PUBLIC), len(_part(_PUBLIC))))


def free_port() -> int:
    """A loopback port that nobody holds, and that this process gives to nobody else for long."""
    for port in itertools.islice(_drawn, len(_part(_PUBLIC))):
        with socket.socket() as probe:
            # As servers do: a port whose last connection has just ended is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("every port of the tests is taken")


def ingress_ports() -> dict[str, str]:
    """The environment of a server: where its replicas take requests from its HAProxy."""
    ours = _part(_INGRESSES)
    return {
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(ours.start),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(ours.stop - 1),
    }
