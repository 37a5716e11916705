"""The models of a server as tables: what the verbs `ps` and `models` show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from llm_serve.cli.client import ModelEntry

_COLORS = {
    "ready": "green",
    "loading": "yellow",
    "queued": "yellow",
    "draining": "yellow",
    "failed": "red",
}
_NOTHING = "-"
_BAR = 20

Columns = dict[str, Callable[[ModelEntry], Any]]
"""Title, and what stands under it."""


def processes(models: Sequence[ModelEntry], *, bars: bool) -> Table:
    """What every model does now. `bars` draws the progress of loads."""
    columns: Columns = {
        "MODEL": lambda m: m["id"],
        "STATUS": _status,
        "LOAD": _bar if bars else _load,
        "RUNNING": lambda m: str(m["running"]),
        "QUEUED": lambda m: str(m["queued"]),
        "MEMORY": lambda m: _in_units(m.get("footprint_bytes")) if m["replicas"] else _NOTHING,
        "REPLICAS": lambda m: str(m["replicas"]),
        "LAST ERROR": lambda m: m.get("last_error", _NOTHING),
    }
    return _table(models, columns, right=("RUNNING", "QUEUED", "MEMORY", "REPLICAS"))


def allowlist(models: Sequence[ModelEntry]) -> Table:
    """What may be asked for."""
    columns: Columns = {
        "MODEL": lambda m: m["id"],
        "BACKEND": lambda m: m["backend"],
        "STATUS": _status,
        "CONTEXT": lambda m: str(m.get("context_length", _NOTHING)),
        "NOTES": _notes,
    }
    return _table(models, columns, right=("CONTEXT",))


def _table(models: Sequence[ModelEntry], columns: Columns, right: tuple[str, ...]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for title in columns:
        table.add_column(title, justify="right" if title in right else "left")
    for model in models:
        cells = (show(model) for show in columns.values())
        table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in cells))
    return table


def _status(model: ModelEntry) -> Text:
    return Text(model["status"], style=_COLORS.get(model["status"], "dim"))


def _load(model: ModelEntry) -> str:
    """`weights 40%`, `number 2 in line`, with the seconds that are left where they are known."""
    words = []
    if model["status"] == "loading":
        words.append(model.get("load_stage") or "starting")
        if model.get("load_progress") is not None:
            words.append(f"{model['load_progress']:.0%}")
    elif model["status"] == "queued":
        words.append(f"number {model['position']} in line" if model.get("position") else "waiting")
    elif model["status"] == "failed" and model.get("retry_in_seconds"):
        words.append(f"again in {model['retry_in_seconds']:.0f} s")
    if model.get("eta_seconds") is not None:
        words.append(f"({model['eta_seconds']:.0f} s left)")
    return " ".join(words) or _NOTHING


def _bar(model: ModelEntry) -> Any:
    """`_load` with a bar before it, which moves where the fraction is not known."""
    if model["status"] != "loading":
        return _load(model)
    fraction = model.get("load_progress")
    grid = Table.grid(padding=(0, 1, 0, 0))
    bar = ProgressBar(total=1, completed=fraction or 0, pulse=fraction is None, width=_BAR)
    grid.add_row(bar, Text(_load(model)))
    return grid


def _in_units(count: float | None) -> str:
    if count is None:
        return _NOTHING
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def _notes(model: ModelEntry) -> str:
    notes = [word for word in ("default", "pinned") if model[word]]
    return ", ".join(notes) or _NOTHING
