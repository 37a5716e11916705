"""The life of `llm-serve`, from the first check to the last process: what the command runs."""

from __future__ import annotations

import errno
import json
import shlex
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from deployments.door.door import NotServed
from deployments.machine.launch import Order, StartFailed
from deployments.machine.place import open_door, own_folder
from deployments.machine.probe import Health
from deployments.machine.ray_process import DISK_FULL
from deployments.machine.supervisor import Broken, Supervisor
from deployments.schema import ServeFile
from llm_serve.cli.terminal import Terminal
from llm_serve.config import Config, Kind, ModelConfig
from llm_serve.errors import LoadFailed
from llm_serve.host.ports import PortTaken, is_loopback, require_port
from llm_serve.host.processes import adopt_orphans, end_all
from llm_serve.host.signals import Stopped, StopSignals
from llm_serve.models import is_cached, resolve
from llm_serve.models.kind import with_kinds
from llm_serve.progress import LoadProgress

_QUESTION = "Explain cataract surgery in one sentence."


def serve_until_stopped(file: ServeFile, terminal: Terminal) -> int:
    """The exit code: 0 after Ctrl-C or SIGTERM, 1 on failure."""
    config = file.config
    adopt_orphans()
    with StopSignals() as signals:
        try:
            with ExitStack() as stack:
                require_port(file.host, file.port)
                _warn_if_open(file, terminal)
                _fetch(config.default_model, terminal)
                folder = stack.enter_context(own_folder())
                door = stack.enter_context(open_door(file, folder))
                control = None if door is None else door.control
                order = Order(**dict(file), folder=folder, door=control)
                supervisor = Supervisor(order, door)
                stack.callback(supervisor.stop)
                try:
                    _start_and_watch(supervisor, config, terminal)
                except Stopped:
                    supervisor.drain(terminal.say)
                    signals.ending()
        except Stopped:
            pass
        except (PortTaken, LoadFailed, StartFailed, Broken, NotServed) as error:
            terminal.error(error.detail if isinstance(error, LoadFailed) else str(error))
            return 1
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            terminal.error(DISK_FULL)
            return 1
        finally:
            signals.ending()
            end_all()
        terminal.say("Stopped.")
        return 0


def _start_and_watch(supervisor: Supervisor, config: Config, terminal: Terminal) -> None:
    """Only raises: Stopped when somebody ends it, StartFailed when it cannot go on."""
    terminal.say("Starting Ray ...")
    supervisor.start()
    _wait(supervisor, config, terminal)
    _greet(supervisor, config, terminal)
    supervisor.watch(terminal.warn)


def _fetch(model: ModelConfig, terminal: Terminal) -> None:
    """Gets the weights of a model that has any. Raises LoadFailed."""
    if model.backend != "echo" and not is_cached(model):
        with terminal.progress(model.id) as report:
            resolve(model, report)


def _warn_if_open(file: ServeFile, terminal: Terminal) -> None:
    if not is_loopback(file.host) and file.config.server.api_key_file is None:
        terminal.warn(
            f"listening on {file.host}, and anyone who can reach it may use the models; "
            "set server.api_key_file to ask for a key."
        )


def _wait(supervisor: Supervisor, config: Config, terminal: Terminal) -> None:
    with terminal.progress(config.default_model.id) as report:

        def show(health: Health) -> None:
            if stage := health.get("load_stage"):
                report(LoadProgress(stage, health.get("load_progress")))

        terminal.say(f"Ray is up; logs are in {supervisor.ray['logs']}")
        health = supervisor.wait(show)
    if health["status"] == "degraded" and (why := supervisor.probe.why_default_failed()):
        raise StartFailed(why)
    if failed := health.get("failed_models"):
        terminal.warn(f"these models could not be loaded: {', '.join(failed)}; see /v1/models.")


def _greet(supervisor: Supervisor, config: Config, terminal: Terminal) -> None:
    url, ray = supervisor.probe.url, supervisor.ray
    terminal.say("")
    terminal.important(f"Serving {config.default_model.id} at {url}/v1")
    terminal.say("Try:")
    kind = with_kinds(config).default_model.known_kind
    terminal.say(f"  {curl_line(url, config.server.api_key_file, kind)}")
    if ray["dashboard"] is not None:
        guard = (
            f"it asks for Ray's token, which is in {ray['token']}"
            if ray["token"]
            else "open to everyone on this machine, as RAY_AUTH_MODE says"
        )
        terminal.say(f"Dashboard: {ray['dashboard']} ({guard})")
    terminal.say("Ctrl-C stops everything that was started here.")


def curl_line(url: str, api_key_file: str | None, kind: Kind | None = None) -> str:
    """One line for a shell, for a default model of this kind."""
    body: dict[str, Any]
    path, body = "chat/completions", {"messages": [{"role": "user", "content": _QUESTION}]}
    if kind == "embedding":
        path, body = "embeddings", {"input": _QUESTION}
    key = ""
    if api_key_file is not None:
        file = shlex.quote(str(Path(api_key_file).expanduser()))
        key = f" -H \"Authorization: Bearer $(sed -n '/^[^#]/{{p;q;}}' {file})\""
    return (
        f"curl -s {url}/v1/{path} -H 'Content-Type: application/json'{key} -d '{json.dumps(body)}'"
    )
