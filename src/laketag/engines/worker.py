"""The worker process of the local engine: takes functions and tasks from a socket, answers with results."""

from __future__ import annotations

import os
import sys
import threading
import traceback
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing.connection import Connection
from typing import Any

import cloudpickle

from laketag.engines import place, stopping
from laketag.errors import LaketagError


@dataclass(frozen=True)
class Answer:
    """What a worker says of one task."""

    index: int
    """The task's place in the list of tasks."""
    value: Any = None
    """What `fn` returned."""
    error: LaketagError | None = None
    """An error of ours that `fn` raised, to be raised in the driver as it is."""
    trace: str | None = None
    """The traceback of anything else that `fn` raised."""


def serve(connection: Connection) -> None:
    """Run one function over the tasks that come, until the other end closes."""
    try:
        pickled = connection.recv_bytes()
        while True:
            connection.send_bytes(_answer(pickled, connection.recv_bytes()))
    except (EOFError, ConnectionError):
        return


@lru_cache(maxsize=1)
def _loaded(pickled: bytes) -> Any:
    return cloudpickle.loads(pickled)


def _answer(pickled: bytes, pair: bytes) -> bytes:
    """Give the pickled answer; a function, a task or a result that does not pickle is an answer, too."""
    index = -1
    try:
        index, task = cloudpickle.loads(pair)
        answer: bytes = cloudpickle.dumps(Answer(index, _loaded(pickled)(task)))
    except LaketagError as error:
        answer = cloudpickle.dumps(Answer(index, error=error))
    # The boundary of the process: whatever it is, the driver must see it, and this worker goes on.
    except Exception:
        answer = cloudpickle.dumps(Answer(index, trace=traceback.format_exc()))
    return answer


def _die_with_the_driver(driver: int) -> None:
    """End this process when its driver is gone: a killed driver must not leave workers at work."""

    def watch() -> None:
        alarm = threading.Event()
        while not alarm.wait(0.5):
            if os.getppid() != driver:
                os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    """Start a worker; the command line gives the socket's number, the driver's id and the worker's place."""
    stopping.listen()
    place.take(int(sys.argv[3]))
    _die_with_the_driver(int(sys.argv[2]))
    # stdout belongs to the driver's result; what a tagger prints is a message.
    os.dup2(2, 1)
    serve(Connection(int(sys.argv[1])))
    # Threads of native libraries may still run; ending here skips their destructors.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
