"""What the person at the terminal sees: lines, and progress bars where there is a terminal.

Every verb writes through it, and so does the server's own life (`deployments.machine.lifetime`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from llm_serve.progress import LoadProgress, OnProgress, Stage

_STEP = 0.25
_ANY_WIDTH = 10_000
_SAYS: dict[Stage, str] = {
    "starting": "Starting the engine of {}",
    "download": "Fetching {}",
    "convert": "Converting {}",
    "weights": "Loading {}",
    "warmup": "Warming up {}",
}


class Terminal:
    """Lines to standard output, warnings and errors to standard error."""

    def __init__(self) -> None:
        self._out = Console(highlight=False, soft_wrap=True)
        self._err = Console(highlight=False, soft_wrap=True, stderr=True)

    def say(self, line: str) -> None:
        self._out.print(line, markup=False)

    def important(self, line: str) -> None:
        self._out.print(line, markup=False, style="bold")

    def warn(self, line: str) -> None:
        self._err.print(f"Warning: {line}", markup=False, style="yellow")

    def error(self, line: str) -> None:
        self._err.print(f"Error: {line}", markup=False, style="red")

    @property
    def is_interactive(self) -> bool:
        """Whether someone looks at it now; else it is a file or a pipe."""
        return self._out.is_terminal

    def table(self, table: Table) -> None:
        """Cut to the width of a terminal; whole elsewhere."""
        if self.is_interactive:
            self._out.print(table, soft_wrap=False)
        else:
            Console(highlight=False, width=_ANY_WIDTH).print(table)

    def live(self, table: Table) -> Live:
        """The table in place, to be updated."""
        return Live(table, console=self._out)

    @contextmanager
    def progress(self, model_id: str) -> Iterator[OnProgress]:
        """A bar per stage in a terminal; elsewhere a line per stage and per quarter of it."""
        if not self.is_interactive:
            yield _Lines(self, model_id)
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[percent]}"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self._out) as bars:
            yield _Bars(bars, model_id)


class _Bars:
    """An `OnProgress` that draws one bar for each stage of a load."""

    def __init__(self, bars: Progress, model_id: str) -> None:
        self._bars = bars
        self._model_id = model_id
        self._stage: Stage | None = None
        self._task: TaskID | None = None

    def __call__(self, progress: LoadProgress) -> None:
        if progress.stage != self._stage:
            self._stage = progress.stage
            if self._task is not None:
                self._bars.update(self._task, total=1, completed=1, percent="done")
            title = _SAYS[progress.stage].format(self._model_id)
            self._task = self._bars.add_task(title, total=None, percent="")
        if progress.fraction is not None and self._task is not None:
            self._bars.update(
                self._task, total=1, completed=progress.fraction, percent=f"{progress.fraction:.0%}"
            )


class _Lines:
    """An `OnProgress` that writes lines."""

    def __init__(self, terminal: Terminal, model_id: str) -> None:
        self._terminal = terminal
        self._model_id = model_id
        self._stage: Stage | None = None
        self._next = 0.0

    def __call__(self, progress: LoadProgress) -> None:
        line = _SAYS[progress.stage].format(self._model_id)
        if progress.stage != self._stage:
            self._stage = progress.stage
            self._next = _STEP
            self._terminal.say(f"{line} ...")
        elif progress.fraction is not None and progress.fraction >= self._next:
            self._next = (progress.fraction // _STEP + 1) * _STEP
            self._terminal.say(f"{line}: {progress.fraction:.0%}")
