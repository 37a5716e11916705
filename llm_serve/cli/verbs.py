"""The verbs for a server that runs: `ps`, `models`, `load`, `unload`.

They exit with 0 when it is done, 1 when it could not be done, 2 when it was asked for wrongly.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Annotated

import typer

from llm_serve.cli.client import DEFAULT_URL, ModelEntry, Refused, Remote, RemoteError
from llm_serve.cli.tables import allowlist, processes
from llm_serve.cli.terminal import Terminal
from llm_serve.config.api_keys import read_keys
from llm_serve.errors import UnknownModel
from llm_serve.progress import LoadProgress, OnProgress, Stage

_FAILED, _USAGE, _INTERRUPTED = 1, 2, 130
_EVERY_S = 1.0
_SETTLE_S = 5.0
"""How long an ingress may take to show what the director has accepted."""

Url = Annotated[str, typer.Option("--url", metavar="URL", help="Where the server is.")]
KeyFile = Annotated[
    str | None,
    typer.Option("--key-file", metavar="FILE", help="A file with an API key, if it asks for one."),
]
ModelId = Annotated[str, typer.Argument(metavar="MODEL", help="An id of `llm-serve models`.")]


def ps(
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Keep the table up to date until Ctrl-C.")
    ] = False,
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
) -> None:
    """Show what every model of a running server does.

    Its status, how far its load is, requests that run and wait, its memory, and its last error.
    --watch needs a terminal; elsewhere the table is printed once.
    """
    with _remote(url, key_file) as (remote, terminal):
        if not (watch and terminal.is_interactive):
            terminal.table(processes(remote.models(), bars=False))
            return
        with suppress(KeyboardInterrupt), remote.changes(_EVERY_S) as changes:
            first = processes(next(changes), bars=True)
            with terminal.live(first) as live:
                for models in changes:
                    live.update(processes(models, bars=True))


def models(url: Url = DEFAULT_URL, key_file: KeyFile = None) -> None:
    """List the models that may be asked for.

    CONTEXT, in tokens, is known once a model has been loaded.
    """
    with _remote(url, key_file) as (remote, terminal):
        terminal.table(allowlist(remote.models()))


def load(
    model: ModelId,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait until it is ready or has failed.")
    ] = True,
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
) -> None:
    """Load a model before anybody asks for it.

    Others leave for it where room is short, once the work in flight on them is done.
    """
    with _remote(url, key_file) as (remote, terminal):
        began = time.monotonic()
        accepted = remote.load(model)
        if accepted is None:
            terminal.say(f"{model} is ready.")
        elif not wait:
            terminal.say(f"{model} is on its way; `llm-serve ps` shows how far it is.")
        else:
            with terminal.progress(model) as report:
                _follow(remote, model, report, terminal)
            terminal.say(f"{model} is ready after {time.monotonic() - began:.1f} s.")


def unload(model: ModelId, url: Url = DEFAULT_URL, key_file: KeyFile = None) -> None:
    """Take a model out of memory.

    Requests in flight on it end first. It comes back when it is asked for.
    """
    with _remote(url, key_file) as (remote, terminal):
        view = remote.unload(model)
        if view["status"] in ("ready", "draining", "loading"):
            terminal.say(f"{model} leaves once its requests in flight are done.")
        else:
            terminal.say(f"{model} is not loaded.")


VERBS: tuple[Callable[..., None], ...] = (ps, models, load, unload)


@contextmanager
def _remote(url: str, key_file: str | None) -> Iterator[tuple[Remote, Terminal]]:
    """The server, and errors as sentences with their exit codes."""
    terminal = Terminal()
    try:
        keys = read_keys(key_file, "--key-file")
    except ValueError as error:
        terminal.error(f"{error}.")
        raise typer.Exit(_USAGE) from None
    try:
        with closing(Remote(url, keys[0] if keys else None)) as remote:
            yield remote, terminal
    except RemoteError as error:
        terminal.error(str(error))
        wrong = isinstance(error, Refused) and error.code == UnknownModel.code
        raise typer.Exit(_USAGE if wrong else _FAILED) from None
    except KeyboardInterrupt:
        raise typer.Exit(_INTERRUPTED) from None


def _follow(remote: Remote, model_id: str, report: OnProgress, terminal: Terminal) -> None:
    """Returns once the model is ready. Raises RemoteError when it will not be."""
    began, moved, position = time.monotonic(), False, None
    with remote.changes(_EVERY_S) as changes:
        for models in changes:
            model = next(m for m in models if m["id"] == model_id)
            match model["status"]:
                case "ready":
                    return
                case "queued":
                    moved = True
                    if model.get("position") not in (None, position):
                        position = model["position"]
                        terminal.say(f"{model_id} is number {position} in line.")
                case "loading":
                    moved = True
                    stage: Stage = model.get("load_stage") or "starting"
                    report(LoadProgress(stage, model.get("load_progress")))
                case _ if moved or time.monotonic() - began > _SETTLE_S:
                    raise RemoteError(_why_not_ready(model))


def _why_not_ready(model: ModelEntry) -> str:
    if model["status"] == "failed":
        return f"{model['id']} could not be loaded: {model.get('last_error', 'no reason is known')}"
    return f"{model['id']} is not loaded after all: it was unloaded, or another took its place."
