"""A process that may die, be stopped, or be overtaken by others at any moment of a command."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from unittest import mock

import lance
from lance.dataset import Tags

from laketag.errors import WorkerLost
from laketag.lake.staged import StagedFiles
from laketag.tagging import careful
from world.watched import WEATHER, Killed

_TRIES = 4
_WRITES = [
    *((StagedFiles, "write"), (StagedFiles, "delete"), (StagedFiles, "drop_folders")),
    *((Tags, "create"), (Tags, "update"), (Tags, "delete")),
    *((lance.LanceDataset, "drop_columns"), (lance.LanceDataset, "update_field_metadata")),
    (lance.LanceDataset, "commit"),
]
"""All by which a run leaves something behind, but for column files that no version refers to."""


@dataclass(frozen=True)
class Moment:
    """Something that happens in the middle of a command."""

    place: str
    """`write`: at the n-th write of any kind; `commit`: at the n-th commit; `task`: after the n-th task."""
    nth: int
    what: object
    """`kill`, `kill a worker`, `stop` (Ctrl-C), `full` (the disk), `unheard` (the answer gets lost); or a
    step of someone else's."""
    is_after: bool = False
    """Whether the write itself is still done."""


@dataclass
class Moments:
    """Watches over a command, and lets its moment come."""

    moment: Moment | None
    others: Callable[[object], None]
    """Does someone else's step."""
    seen: dict[str, int] = field(default_factory=dict)
    has_come: bool = False
    deaths: int = 0
    """Workers that died and were replaced."""
    _is_in_worker: bool = False
    _is_workers_death: bool = True
    _is_elsewhere: bool = False
    _lock: Any = field(default_factory=threading.RLock)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch while the body runs; afterwards everybody is alive again."""
        with ExitStack() as patched:
            for owner, name in _WRITES:
                write = getattr(owner, name)
                through = self._through(write, "commit" if name == "commit" else "write")
                through = staticmethod(through) if name == "commit" else through
                patched.enter_context(mock.patch.object(owner, name, through))
            patched.enter_context(mock.patch.object(careful, "Local", partial(_Apart, self)))
            try:
                yield
            finally:
                WEATHER.is_dead = False

    def run(
        self, fn: Callable[[Any], Any], tasks: Sequence[Any], tell: Any = None
    ) -> Generator[Any, None, None]:
        """Be the engine: one worker, which dies as processes do, and is replaced."""
        for task in tasks:
            done = self._worked(fn, task)
            self._comes("task")
            yield done

    def _worked(self, fn: Callable[[Any], Any], task: Any) -> Any:
        for _ in range(_TRIES):
            self._is_in_worker = True
            try:
                return fn(task)
            except Killed:
                if not self._is_workers_death:
                    raise
                self.replaced()
            finally:
                self._is_in_worker = False
        raise WorkerLost("the worker died (SIGKILL)")

    def replaced(self) -> None:
        """Put a new process in the place of a dead one."""
        self.deaths += 1
        WEATHER.is_dead = False

    def _through(self, write: Callable[..., Any], place: str) -> Callable[..., Any]:
        def through(*arguments: Any, **options: Any) -> Any:
            if self._is_elsewhere:
                return write(*arguments, **options)
            if WEATHER.is_dead:
                raise Killed
            comes = [self._is_now(name) for name in {place, "write"}]
            if any(comes) and not self._moment.is_after:
                self._happens()
            done = write(*arguments, **options)
            if any(comes) and self._moment.is_after:
                self._happens()
            return done

        return through

    @property
    def _moment(self) -> Moment:
        assert self.moment is not None
        return self.moment

    def _comes(self, place: str) -> None:
        if self._is_now(place):
            self._happens()

    def _is_now(self, place: str) -> bool:
        with self._lock:
            self.seen[place] = self.seen.get(place, 0) + 1
            moment = self.moment
            return moment is not None and (moment.place, moment.nth) == (place, self.seen[place])

    def _happens(self) -> None:
        self.has_come, what = True, self._moment.what
        if what in ("kill", "kill a worker"):
            WEATHER.is_dead = True
            self._is_workers_death = what == "kill a worker" and self._is_in_worker
            raise Killed
        if what == "stop":
            raise KeyboardInterrupt
        if what == "full":
            raise OSError(errno.ENOSPC, "No space left on device")
        if what == "unheard":
            raise OSError("the connection was closed")
        self._is_elsewhere = True
        try:
            self.others(what)
        finally:
            self._is_elsewhere = False


@dataclass
class _Apart:
    """The engine of the rows that killed a worker: a process of their own, which may die, too."""

    moments: Moments
    workers: int
    tries: int

    def run(self, fn: Callable[[Any], Any], tasks: Sequence[Any]) -> Iterator[Any]:
        for task in tasks:
            try:
                done = fn(task)
            except Killed:
                self.moments.replaced()
                raise WorkerLost("the worker died (SIGABRT)") from None
            yield done
