"""Programs as whole trees of processes: how long they take, what they read and write, how they are killed.

Ray's and Spark's workers are nobody's children that one could wait for. So each run carries a mark in its
environment, and whoever bears it belongs to the run.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

_RAY_DID_NOT_START = "The current node timed out during startup"
_TRIES = 6
_MARK = "LAKETAG_BENCHMARK_RUN"
_EVERY = 0.05
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Done:
    """How a program ended, and what its processes took, all of them together."""

    returncode: int
    stdout: str
    stderr: str
    wall: float
    """Seconds."""
    cpu: float
    """Seconds of all cores."""
    read: int
    """Bytes, whether the disk or the page cache gave them."""
    written: int
    """Bytes."""

    def checked(self) -> Done:
        """Give itself, unless the program failed."""
        if self.returncode:
            raise RuntimeError(f"exit {self.returncode}: {self.stderr[-3000:]}")
        return self


def run(
    command: Sequence[str | Path],
    *,
    variables: Mapping[str, str] | None = None,
    folder: Path | None = None,
    kill_when: Callable[[], bool] = lambda: False,
) -> Done:
    """Run a program to its end, or kill its whole tree, with -9, as soon as that is so.

    What it took is exact for the program itself and the children that it waits for. Others, as Ray's workers,
    are looked at twenty times a second, and keep their last figures when they are gone. On a busy machine Ray
    may give up before it has started, and the program with it: then it is run again.
    """
    for _ in range(_TRIES):
        done = _run(command, variables or {}, folder, kill_when)
        if _RAY_DID_NOT_START not in done.stderr:
            break
    return done


def _run(
    command: Sequence[str | Path],
    variables: Mapping[str, str],
    folder: Path | None,
    kill_when: Callable[[], bool],
) -> Done:
    value = uuid.uuid4().hex
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        started = time.perf_counter()
        main = subprocess.Popen(
            [str(part) for part in command],
            env={**os.environ, "RAY_agent_register_timeout_ms": "100000", **variables, _MARK: value},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
        )
        tree = _Tree(f"{_MARK}={value}", main.pid)
        ended = os.pidfd_open(main.pid)
        while not select.select([ended], [], [], _EVERY)[0]:
            tree.look()
            if kill_when():
                tree.kill()
        os.close(ended)
        wall = time.perf_counter() - started
        tree.look()
        left = set(tree.alive())  # it did not wait for these, though some may be its children
        own = _used(
            Path("/proc", str(main.pid))
        )  # a process that is not waited for yet still has its figures
        tree.kill()
        main.wait()
        out.seek(0), err.seek(0)
        texts = [file.read().decode(errors="replace") for file in (out, err)]
    used = [own, *(one for pid, one in tree.used.items() if one.parent != main.pid or pid in left)]
    sums = (sum(one.cpu for one in used), sum(one.read for one in used), sum(one.written for one in used))
    return Done(main.returncode, *texts, wall, *sums)


@dataclass(frozen=True)
class _Used:
    """Of a process and of the children that it waited for."""

    parent: int
    cpu: float
    read: int
    written: int


@dataclass
class _Tree:
    """The processes that bear a mark."""

    mark: str
    main: int
    used: dict[int, _Used] = field(default_factory=dict)
    others: set[int] = field(default_factory=set)

    def alive(self) -> Iterator[int]:
        for name in os.listdir("/proc"):
            if name.isdecimal() and int(name) not in self.others:
                pid = int(name)
                if pid != self.main and (pid in self.used or self._is_marked(pid)):
                    yield pid

    def look(self) -> None:
        for pid in list(self.alive()):
            try:
                found = _used(Path("/proc", str(pid)))
                before = self.used.get(pid, found)
                self.used[pid] = replace(found, parent=before.parent)
            except (OSError, ValueError, KeyError):
                pass  # it ended meanwhile: its last figures stay

    def kill(self) -> None:
        """Kill them all, those that are started meanwhile too."""
        for _ in range(20):
            found = [pid for pid in (self.main, *self.alive()) if self._is_marked(pid)]
            if not found:
                return
            for pid in found:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            time.sleep(_EVERY)

    def _is_marked(self, pid: int) -> bool:
        try:
            environment = Path("/proc", str(pid), "environ").read_bytes()
        except OSError:
            return False
        if self.mark.encode() in environment.split(b"\0"):
            return True
        if environment:  # else it is between fork and exec, or dead
            self.others.add(pid)
        return False


def _used(process: Path) -> _Used:
    words = (process / "stat").read_text().rpartition(")")[2].split()
    lines = (line.split(": ") for line in (process / "io").read_text().splitlines())
    counts = {key: int(value) for key, value in lines}
    # The parent is field 4 of the whole line; user and system time, own and of waited children, are 14 to 17.
    return _Used(int(words[1]), sum(map(int, words[11:15])) / _TICKS, counts["rchar"], counts["wchar"])
