"""The configuration that the installed Ray Serve writes for HAProxy, from its own template."""

from __future__ import annotations

import re
import socket
import warnings
from contextlib import suppress
from pathlib import Path

from deployments.machine.environment import serve_env


def rendered(folder: Path, port: int, *servers: int) -> Path:
    """The file of a manager that knows an application at `/` with replicas on these ports of
    127.0.0.1; without ports it knows none yet."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Ray's own, when it is imported here first
        from ray.serve._private.haproxy import (
            BackendConfig,
            HAProxyApi,
            HAProxyConfig,
            ServerConfig,
        )
        from ray.serve.config import HTTPOptions

    environ = serve_env()
    file = folder / "ray" / "haproxy.cfg"
    api = HAProxyApi(
        HAProxyConfig(
            socket_path=str(folder / "ray" / "admin"),
            metrics_socket_path=str(folder / "ray" / "metrics"),
            server_state_base=str(folder / "ray"),
            server_state_file=str(folder / "ray" / "state"),
            http_options=HTTPOptions(host="127.0.0.1", port=port),
            has_received_routes=bool(servers),
            is_head=True,
            retry_on=environ["RAY_SERVE_HAPROXY_RETRY_ON"],
            retries=int(environ["RAY_SERVE_HAPROXY_RETRIES"]),
        ),
        config_file_path=str(file),
    )
    if servers:
        listed = [ServerConfig(name=f"s{p}", host="127.0.0.1", port=p) for p in servers]
        backend = BackendConfig(name="http-app", path_prefix="/", servers=listed, app_name="app")
        api.set_backend_configs({"http-app": backend})
    api._generate_config_file_internal()
    return file


def admin_pid(admin: Path) -> int | None:
    """The process that answers on an admin socket, as Ray asks for it."""
    with socket.socket(socket.AF_UNIX) as ray, suppress(OSError):
        ray.settimeout(5)
        ray.connect(str(admin))
        ray.sendall(b"show info\n")
        answer = b""
        while part := ray.recv(65536):
            answer += part
        if found := re.search(rb"(?m)^Pid: (\d+)", answer):
            return int(found[1])
    return None
