"""What a worker of any engine does with a task, and how the driver takes what it says."""

from __future__ import annotations

import os
import socket
import sys
import traceback
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import cloudpickle

from laketag.engines import stopping
from laketag.engines.parcel import Parcel
from laketag.errors import EngineError, LaketagError, TaskFailed
from laketag.version import VERSION


@dataclass(frozen=True)
class Answer:
    """What a worker says of one task."""

    who: str
    """The worker: its host and process."""
    value: Any = None
    """What the function returned."""
    error: LaketagError | None = None
    """An error of ours that it raised, to be raised in the driver."""
    trace: str | None = None
    """The traceback of anything else that it raised."""
    is_cut: bool = False
    """Whether the worker was told to stop: the task may not be done, and the worker takes no other."""


def packed(fn: Any, py_files: Sequence[str] = ()) -> bytes:
    """Pickle a function for one run, together with the files that it needs.

    Raises:
        EngineError: one of the files cannot be read.
    """
    # A worker that outlives a run must not take the same function of the next run for this one, with what
    # this one keeps: the dataset may be another by then.
    run = uuid.uuid4().hex
    pickled: bytes = cloudpickle.dumps((run, Parcel.of(py_files), cloudpickle.dumps(fn)))
    return pickled


def answer(pickled: bytes, task: bytes) -> Answer:
    """Run a packed function, loaded once per run and process, on a pickled task.

    Whatever goes wrong is an answer, too.
    """
    who = f"process {os.getpid()} on {socket.gethostname()}"
    try:
        value = _loaded(pickled)(cloudpickle.loads(task))
        return Answer(who, value, is_cut=stopping.requested())
    except LaketagError as error:
        return Answer(who, error=error, is_cut=stopping.requested())
    # The boundary of the process: whatever it is, the driver must see it, and this worker goes on.
    except Exception:
        return Answer(who, trace=traceback.format_exc(), is_cut=stopping.requested())


def say(pickled: bytes, task: bytes) -> bytes:
    """Answer a task; the answer is pickled."""
    return said(answer(pickled, task))


def said(answer: Answer) -> bytes:
    """Pickle an answer; a result that does not pickle is an answer, too."""
    try:
        pickled: bytes = cloudpickle.dumps(answer)
    # A user's result may raise anything here.
    except Exception:
        pickled = cloudpickle.dumps(replace(answer, value=None, trace=traceback.format_exc()))
    return pickled


@lru_cache(maxsize=1)
def _loaded(pickled: bytes) -> Any:
    # Threads of a model that wait must sleep: awake, they take the cores from those that decode. It is read
    # when a library of a model is loaded, which is below.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    _, parcel, fn = cloudpickle.loads(pickled)
    parcel.unpack()
    try:
        return cloudpickle.loads(fn)
    except ModuleNotFoundError as error:
        raise TaskFailed(
            f"a worker lacks the module {error.name!r}: install it there, or send it along with "
            "--engine-option py_files=PATH"
        ) from error


def value_of(answer: Answer, *, is_elsewhere: bool) -> Any:
    """Give an answer's value, or raise what it says; an error on another machine names the worker."""
    where = f" (worker: {answer.who})" if is_elsewhere else ""
    if answer.error is not None:
        raise type(answer.error)(f"{answer.error}{where}")
    if answer.trace is not None:
        last = answer.trace.strip().splitlines()[-1]
        raise TaskFailed(f"a task failed in its worker: {last}{where}") from RuntimeError(answer.trace)
    return answer.value


def elsewhere(function: str) -> Callable[..., bytes | str]:
    """Make what a worker elsewhere runs: a function of this package, or a line on why it cannot.

    It travels by value, which a function inside another does, so that a worker without laketag, or
    with another version of it, can say so.

    Args:
        function: its name, as `module:name`; it returns a pickled `Answer`.
    """
    path, host, version = list(sys.path), socket.gethostname(), VERSION

    def run(*arguments: Any) -> bytes | str:
        import importlib
        import os
        import socket
        import sys

        # What the driver finds, a worker on its machine finds alike. Elsewhere the same places may hold the
        # same modules, on a shared disk, but what is installed there comes first.
        here, there = (path, sys.path) if socket.gethostname() == host else (sys.path, path)
        sys.path[:] = [*here, *(place for place in there if place not in here)]
        who = f"process {os.getpid()} on {socket.gethostname()}"
        module, _, name = function.partition(":")
        try:
            from laketag.version import VERSION

            found = getattr(importlib.import_module(module), name)
        except ImportError as error:
            return f"the worker ({who}) lacks {error.name}: install laketag {version} there"
        if version != VERSION:
            return f"the worker ({who}) has laketag {VERSION}: install {version} there"
        result: bytes = found(*arguments)
        return result

    return run


def heard(said: bytes | str) -> Answer:
    """Read what such a function returned.

    Raises:
        EngineError: the worker cannot work at all.
    """
    if isinstance(said, str):
        raise EngineError(said)
    answer: Answer = cloudpickle.loads(said)
    return answer
