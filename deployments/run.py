"""The life of `llm-serve`, from the first check to the last process."""

from __future__ import annotations

import errno
import json
import shlex
from pathlib import Path
from typing import Any

from deployments.launch import Cluster, Health, StartFailed, launch
from deployments.warm import warm_worker
from llm_serve.backends.base import LoadProgress
from llm_serve.config import Config, ModelConfig
from llm_serve.errors import LoadFailed
from llm_serve.models import is_cached, resolve
from llm_serve.ports import PortTaken, is_loopback, require_port
from llm_serve.processes import adopt_orphans, end_all
from llm_serve.stopping import Stopped, StopSignals
from llm_serve.terminal import Terminal

_QUESTION = "Explain cataract surgery in one sentence."


def serve(
    config: Config, host: str, port: int, terminal: Terminal, schema: dict[str, Any] | None = None
) -> int:
    """Serves until it is stopped. The exit code: 0 after Ctrl-C or SIGTERM, 1 on failure."""
    adopt_orphans()
    with StopSignals() as signals:
        try:
            require_port(host, port)
            _warn_if_open(config, host, terminal)
            fetch(config.default_model, terminal)
            terminal.say("Starting Ray ...")
            with launch(config, host=host, port=port, schema=schema) as cluster:
                signals.listen()
                _wait(cluster, terminal)
                _greet(cluster, terminal)
                with warm_worker(cluster.warm_folder):
                    cluster.join()
        except (Stopped, SystemExit):  # ray.init answers SIGTERM with SystemExit
            terminal.say("Stopped.")
            return 0
        except (PortTaken, LoadFailed, StartFailed) as error:
            terminal.error(error.detail if isinstance(error, LoadFailed) else str(error))
            return 1
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            terminal.error(
                "The disk is full; Ray needs room for its logs. Free some and try again."
            )
            return 1
        finally:
            end_all()


def fetch(model: ModelConfig, terminal: Terminal) -> Path | None:
    """Gets the weights of a model that has any. Raises LoadFailed."""
    if model.backend == "echo":
        return None
    if is_cached(model):
        return None
    with terminal.progress(model.id) as report:
        return resolve(model, report)


def _warn_if_open(config: Config, host: str, terminal: Terminal) -> None:
    if not is_loopback(host) and config.server.api_key_file is None:
        terminal.warn(
            f"listening on {host}, and anyone who can reach it may use the models; "
            "set server.api_key_file to ask for a key."
        )


def _wait(cluster: Cluster, terminal: Terminal) -> None:
    with terminal.progress(cluster.config.default_model.id) as report:

        def show(health: Health) -> None:
            if stage := health.get("load_stage"):
                report(LoadProgress(stage, health.get("load_progress")))

        terminal.say(f"Ray is up; logs are in {cluster.logs}")
        health = cluster.wait(show)
    if failed := health.get("failed_models"):
        terminal.warn(f"these models could not be loaded: {', '.join(failed)}; see /v1/models.")


def _greet(cluster: Cluster, terminal: Terminal) -> None:
    terminal.say("")
    terminal.important(f"Serving {cluster.config.default_model.id} at {cluster.url}/v1")
    terminal.say("Try:")
    terminal.say(f"  {curl_line(cluster.url, cluster.config.server.api_key_file)}")
    if cluster.dashboard is not None:
        guard = (
            f"it asks for Ray's token, which is in {cluster.token}"
            if cluster.token
            else "open to everyone on this machine, as RAY_AUTH_MODE says"
        )
        terminal.say(f"Dashboard: {cluster.dashboard} ({guard})")
    terminal.say("Ctrl-C stops everything that was started here.")


def curl_line(url: str, api_key_file: str | None) -> str:
    """One line for a shell."""
    body = json.dumps({"messages": [{"role": "user", "content": _QUESTION}]})
    key = ""
    if api_key_file is not None:
        file = shlex.quote(str(Path(api_key_file).expanduser()))
        key = f" -H \"Authorization: Bearer $(sed -n '/^[^#]/{{p;q;}}' {file})\""
    return f"curl -s {url}/v1/chat/completions -H 'Content-Type: application/json'{key} -d '{body}'"
