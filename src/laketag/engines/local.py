"""Tasks on this machine: worker processes that may die without harm to the driver."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

import cloudpickle

from laketag.engines.answering import Answer, packed, value_of
from laketag.engines.protocol import Workers, require_some, unheard
from laketag.errors import EngineError, LaketagError, WorkerLost

T = TypeVar("T")
R = TypeVar("R")

_LOOK_AGAIN = 5.0
"""Seconds between two looks at which workers have died, where none says anything."""


@dataclass(frozen=True)
class Local:
    """Worker processes on this machine, one task at a time each."""

    workers: int = 1
    """Processes; each loads the models once and decodes with threads of its own."""
    tries: int = 4
    """How often a task is given out before its dying workers end the run."""
    grace: float = 60.0
    """Seconds that workers get to stage what they have when the run is stopped."""

    def __post_init__(self) -> None:
        """Refuse what cannot be.

        Raises:
            WrongUsage: there would be no worker.
        """
        require_some(self.workers)

    def run(
        self, fn: Callable[[T], R], tasks: Sequence[T], tell: Callable[[Workers], None] = unheard
    ) -> Generator[R, None, None]:
        """Yield each task's result as it comes; see `Engine.run`."""
        if not tasks:
            return
        pool = _Pool(packed(fn), tasks, self.tries, tell)
        try:
            for number in range(min(self.workers, len(tasks))):
                pool.start(number)
            while pool.busy:
                for answer in pool.answers():
                    yield value_of(answer, is_elsewhere=False)
        finally:
            pool.stop(self.grace)


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    connection: Connection
    number: int
    index: int = -1

    @property
    def has_died(self) -> bool:
        """Whether it has ended and says no more; what it has forked may hold its end of the wire."""
        return self.process.poll() is not None and not self.connection.poll()


@dataclass
class _Pool:
    fn: bytes
    tasks: Sequence[Any]
    """Each is pickled where it is given out, so that workers start meanwhile."""
    tries: int
    tell: Callable[[Workers], None]
    lost: int = 0
    busy: dict[Connection, _Worker] = field(default_factory=dict)
    idle: list[_Worker] = field(default_factory=list)
    waiting: deque[int] = field(init=False)
    tried: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.waiting = deque(range(len(self.tasks)))
        self.tried = [0] * len(self.tasks)

    def start(self, number: int) -> None:
        """Start the worker of a number on the next task that waits."""
        worker = _started(number)
        with suppress(ConnectionError):  # it died at once: waiting for it will say so
            worker.connection.send_bytes(self.fn)
        self._give(worker)
        # Only a lost worker's task is ever given out again.
        self.tell(Workers(len(self.busy) + len(self.idle), self.lost, self.lost))

    def _give(self, worker: _Worker) -> None:
        if not self.waiting:
            self.idle.append(worker)
            return
        worker.index = self.waiting.popleft()
        self.tried[worker.index] += 1
        self.busy[worker.connection] = worker
        task = cloudpickle.dumps(self.tasks[worker.index])
        with suppress(ConnectionError):
            worker.connection.send_bytes(task)

    def answers(self) -> Iterator[Answer]:
        """Wait for workers; give the next task to those that answered, replace those that died."""
        for connection in wait(list(self.busy), _LOOK_AGAIN):
            worker = self.busy.pop(connection)  # type: ignore[call-overload]  # only connections were given
            try:
                said = worker.connection.recv_bytes()
            except (EOFError, OSError):  # an `OSError` where it died in the middle of a long answer
                self._replace(worker)
                continue
            answer: Answer = cloudpickle.loads(said)
            if answer.is_cut:
                self._replace(worker, answer.error)
                continue
            self._give(worker)
            yield answer
        for worker in [each for each in self.busy.values() if each.has_died]:
            del self.busy[worker.connection]
            self._replace(worker)

    def _replace(self, dead: _Worker, said: LaketagError | None = None) -> None:
        dead.connection.close()
        code = dead.process.wait()
        if self.tried[dead.index] >= self.tries:
            raise WorkerLost(f"the worker died ({said or _cause(code)})")
        self.lost += 1
        self.waiting.appendleft(dead.index)
        self.start(dead.number)

    def stop(self, grace: float) -> None:
        """End every worker: at once when it is idle, after SIGTERM and at most the grace when it is not."""
        for worker in self.busy.values():
            worker.process.send_signal(signal.SIGTERM)
        for worker in self.idle:
            worker.connection.close()
        deadline = time.monotonic() + grace
        for worker in [*self.idle, *self.busy.values()]:
            worker.connection.close()
            try:
                worker.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()


def _cause(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _started(number: int) -> _Worker:
    # The driver's own path: a module found here must be found there, a notebook's folder too.
    begin = f"import sys; sys.path[:] = {sys.path!r}; from laketag.engines.worker import main; main()"
    try:
        ours, theirs = socket.socketpair()
        connection = Connection(ours.detach())
        command = [sys.executable, "-c", begin, str(theirs.fileno()), str(os.getpid()), str(number)]
        # A terminal sends Ctrl-C to all of its processes: this one hears of it from the driver alone.
        held = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            with theirs:
                process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)
    except OSError as error:
        raise EngineError(
            f"worker {number + 1} cannot be started ({error.strerror or error}): give fewer --workers, or "
            "allow more processes and open files (ulimit)"
        ) from error
    return _Worker(process, connection, number)
