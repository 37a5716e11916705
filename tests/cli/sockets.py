"""What listens where."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

import psutil


def listening(processes: Iterable[psutil.Process]) -> dict[str, str]:
    """Address and process of each listening TCP socket."""
    found = {}
    for process in processes:
        try:
            for connection in process.net_connections("tcp"):
                if connection.status == psutil.CONN_LISTEN:
                    found[f"{connection.laddr.ip} {connection.laddr.port}"] = process.name()
        except psutil.Error:
            continue
    return found


def open_to_others(sockets: Iterable[str]) -> list[str]:
    """Those of `listening` that other machines can reach."""
    return [socket for socket in sockets if not _is_loopback(socket.split()[0])]


def _is_loopback(address: str) -> bool:
    ip = ipaddress.ip_address(address)
    mapped = getattr(ip, "ipv4_mapped", None)
    return (mapped or ip).is_loopback
