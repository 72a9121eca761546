"""How much memory a program takes, and each of the processes that it starts: the peak of each by itself.

It is read from `/proc` while the program runs. `getrusage` does not tell: a process is started with the peak
of the one that started it, and keeps that where its own is lower.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_EVERY = 0.1  # seconds; what a process takes in its last moment is not seen


@dataclass(frozen=True)
class Peaks:
    """What a program said and took."""

    said: str
    """What it printed."""
    driver: float
    """Its own peak, MB."""
    worker: float
    """The highest peak of a process below it, MB; 0 where it started none."""


def run(program: str, *arguments: str) -> Peaks:
    """Run a Python program to its end.

    Raises:
        CalledProcessError: it failed.
    """
    command = [sys.executable, "-c", program, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    peaks: dict[int, float] = {}
    while process.poll() is None:
        for pid in _tree(process.pid):
            # The last value: until it execs, a process shows the memory of the one that started it.
            peaks[pid] = _peak(pid) or peaks.get(pid, 0.0)
        time.sleep(_EVERY)
    said = process.stdout.read() if process.stdout else ""
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command[:2])
    driver = peaks.pop(process.pid)
    return Peaks(said, driver, max(peaks.values(), default=0.0))


def _tree(pid: int) -> Iterator[int]:
    yield pid
    for task in _listed(Path(f"/proc/{pid}/task")):
        with suppress(OSError):
            for child in Path(task, "children").read_text().split():
                yield from _tree(int(child))


def _listed(folder: Path) -> Sequence[Path]:
    try:
        return list(folder.iterdir())
    except OSError:  # it ended meanwhile
        return []


def _peak(pid: int) -> float | None:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return None
