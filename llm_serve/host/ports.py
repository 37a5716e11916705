"""Whether this process may listen at an address, and which process does already."""

from __future__ import annotations

import errno
import ipaddress
import socket

import psutil


class PortTaken(Exception):
    """We cannot listen there; the message is a sentence with the remedy."""


_WAITING = 4096
"""Connections that wait to be accepted; the system may allow fewer."""


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on this address. Raises PortTaken."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError:
        raise PortTaken(f"{host!r} is no address of this machine; try --host 127.0.0.1.") from None
    listener = socket.socket(family, kind, proto)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(_WAITING)
    except OSError as error:
        listener.close()
        raise PortTaken(_why_not_bound(host, port, error)) from None
    return listener


def require_port(host: str, port: int) -> None:
    """Raises PortTaken unless a server could be bound to this address now."""
    listen(host, port).close()


def free_port() -> int:
    """A loopback port that nobody holds at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def is_loopback(host: str) -> bool:
    """True where only this machine can reach the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _why_not_bound(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} is in use{_holder(port)}. Stop that, or choose another with --port."
    if error.errno == errno.EACCES:
        return f"Port {port} needs more rights than you have; choose one above 1023 with --port."
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{host} is no address of this machine; try --host 127.0.0.1."
    return f"Cannot listen on {host}:{port}: {error.strerror}."


def _holder(port: int) -> str:
    """` by NAME (pid N)` where it can be known."""
    try:
        for connection in psutil.net_connections("tcp"):
            if (
                connection.status == psutil.CONN_LISTEN
                and connection.laddr
                and connection.laddr.port == port
                and connection.pid is not None
            ):
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        pass
    return ""
