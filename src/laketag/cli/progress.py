"""Progress on stderr: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import typer

from laketag.cli import text

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    from laketag import Progress

_SECONDS_BETWEEN_LINES = 10.0

Report = Callable[["Progress"], None]


@contextmanager
def shown(what: str) -> Iterator[Report]:
    """Give a callback for the library, and show what it is told until the work ends.

    What anybody else prints meanwhile (an engine, a user's module) is a message, and goes to stderr:
    stdout is for the command's result alone.
    """
    with redirect_stdout(sys.stderr):
        yield from _shown(what)


def _shown(what: str) -> Iterator[Report]:
    if not sys.stderr.isatty():
        yield _Lines(what).report
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    # A reason of a failed row is no markup, whatever it holds.
    name, state = (TextColumn(each, markup=False) for each in ("{task.description}", "{task.fields[state]}"))
    # The bar goes when the work is done: what was done is said by the report.
    with Progress(name, BarColumn(), state, console=Console(stderr=True), transient=True) as bar:
        yield _Bar(what, bar).report


@dataclass
class _Pace:
    """How fast a stretch of the work goes in this run: what an earlier, broken run did is not counted."""

    started: float = field(default_factory=time.monotonic)
    first: int | None = None
    note: str = ""

    def describe(self, progress: Progress) -> str:
        seconds = time.monotonic() - self.started
        if self.first is None or progress.note != self.note or progress.done < self.first:
            self.first, self.note = progress.done, progress.note
            self.started, seconds = time.monotonic(), 0.0
        rate = (progress.done - self.first) / seconds if seconds > 0 else 0.0
        parts = [_amount(progress)]
        if rate > 0:
            parts.append(f"{_quantity(rate, progress.unit)}/s")
            if progress.total is not None:
                parts.append(f"{text.duration((progress.total - progress.done) / rate)} left")
        return ", ".join(parts)


@dataclass
class _Bar:
    what: str
    bar: Bar
    pace: _Pace = field(default_factory=_Pace)
    task: TaskID | None = None

    def report(self, progress: Progress) -> None:
        state = text.printable("; ".join(filter(None, (self.pace.describe(progress), progress.detail))))
        name = f"{self.what}: {progress.note}" if progress.note else self.what
        if self.task is None:
            self.task = self.bar.add_task(name, total=progress.total, state=state)
        self.bar.update(
            self.task, description=name, completed=progress.done, total=progress.total, state=state
        )


@dataclass
class _Lines:
    what: str
    pace: _Pace = field(default_factory=_Pace)
    last: float = field(default_factory=time.monotonic)

    def report(self, progress: Progress) -> None:
        state = self.pace.describe(progress)
        now = time.monotonic()
        if now - self.last < _SECONDS_BETWEEN_LINES:
            return
        self.last = now
        note = f", {progress.note}" if progress.note else ""
        note += f"; {progress.detail}" if progress.detail else ""
        typer.echo(text.printable(f"{self.what}: {state}{note}"), err=True)


def _amount(progress: Progress) -> str:
    if progress.total is None:
        return _quantity(progress.done, progress.unit)
    if progress.unit == "bytes":
        return f"{text.size(progress.done)} of {text.size(progress.total)}"
    return f"{progress.done:,} of {progress.total:,} {progress.unit}"


def _quantity(number: float, unit: str) -> str:
    if unit == "bytes":
        return text.size(number)
    return f"{number:,.0f} {unit}" if number >= 10 else f"{number:.1f} {unit}"
