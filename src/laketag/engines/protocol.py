"""What an engine promises: every task's result once, in any order, or an error."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

from laketag.errors import WrongUsage

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Workers:
    """How an engine's workers fare."""

    alive: int = 0
    """Worker processes at work or waiting for some."""
    lost: int = 0
    """Those that died so far."""
    retried: int = 0
    """Tasks given out once more because their worker died."""
    awaited: int = 0
    """Workers that were asked for, and that the cluster has no room for yet."""
    lacking: str = ""
    """What one of them needs, where no node has so much: `1 CPU and 1 GPU`."""

    @property
    def line(self) -> str:
        """For people: `2 workers`, `1 worker, 2 awaited`, `2 workers, 1 lost, 1 task tried again`."""
        parts = [f"{self.alive} worker{'s' * (self.alive != 1)}"]
        if self.awaited:
            why = f" (no node has {self.lacking} yet)" if self.lacking else ""
            parts.append(f"{self.awaited} awaited{why}")
        if self.lost:
            parts.append(f"{self.lost} lost")
        if self.retried:
            parts.append(f"{self.retried} task{'s' * (self.retried != 1)} tried again")
        return ", ".join(parts)


def unheard(workers: Workers) -> None:
    """Take no notice: for callers of `run` who do not ask how its workers fare."""


class Engine(Protocol):
    """Where tasks run. It knows nothing of images, models or Lance.

    It may have two attributes, from which follows what share of the machine's cores a task has:

    - `workers: int`: tasks that run at a time, at most; 1 where it is not given.
    - `cpus: float`: cores that it sets aside for each; without it they share the machine's.
    """

    def run(
        self, fn: Callable[[T], R], tasks: Sequence[T], tell: Callable[[Workers], None] = unheard
    ) -> Generator[R, None, None]:
        """Yield `fn(task)` for every task, once each, in the order in which they finish.

        `fn`, tasks and results must pickle (cloudpickle). A task whose worker dies is tried again,
        so `fn` may run more than once per task. Closing the iterator stops the workers:
        `stopping.requested()` turns true in them, and they get a while to end what they are at.
        `tell` is called when workers come or go.

        Raises:
            TaskFailed: `fn` raised something that is not a `LaketagError` (those are raised as they are).
            WorkerLost: a task killed its worker more often than the engine retries.
        """


def require_engine(given: Engine) -> None:
    """Refuse what cannot run tasks, as an engine's name or its class.

    Raises:
        WrongUsage: it has no `run`.
    """
    if isinstance(given, type) or not callable(getattr(given, "run", None)):
        raise WrongUsage(
            f"engine is {given!r}, which is none; give laketag.Local(), laketag.Ray() or laketag.Spark()"
        )


def workers_of(engine: Engine) -> int:
    """Give the number of tasks that an engine runs at a time."""
    return int(getattr(engine, "workers", None) or 1)


def require_some(workers: int) -> None:
    """Raise `WrongUsage` where there would be no worker, as a share of few cores may come to."""
    if workers < 1:
        raise WrongUsage(f"--workers is {workers}; give a whole number from 1 on")


def cpus_of(engine: Engine, here: int) -> int:
    """Give the cores that a task has, at least one: set aside for it, or its share of those here."""
    return max(1, int(getattr(engine, "cpus", None) or here // workers_of(engine)))


@dataclass(frozen=True)
class Progress:
    """How far a long piece of work is."""

    done: int
    """Units finished so far, those of an earlier, broken run included."""
    total: int | None
    """Units in all; None where that is not known."""
    unit: str
    """What is counted: `rows`, `bytes`, `shards`."""
    note: str = ""
    """What is being done, in a few words."""
    detail: str = ""
    """How it goes, in a few words."""


@dataclass
class Teller:
    """Passes progress on with how the workers fare, and once more whenever that changes."""

    report: Callable[[Progress], None] | None
    workers: Workers = field(default_factory=Workers)
    last: Progress | None = None

    def tell(self, progress: Progress) -> None:
        """Pass progress on."""
        self.last = progress
        if self.report is not None:
            self.report(replace(progress, detail=self.workers.line))

    def hear(self, workers: Workers) -> None:
        """Take note of the workers: for an engine to call."""
        self.workers = workers
        if self.last is not None:
            self.tell(self.last)
