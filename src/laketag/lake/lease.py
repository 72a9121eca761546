"""A lease on a piece of work: it says who works, since when, and runs out with its holder.

A lease is a staged file whose name says all; it is renewed by writing the next one. Whoever wants to work
lists, writes a lease, and lists again: whoever sees another gives way, so that of two at once at least
one does, whatever their clocks say. It costs no version of the dataset.
"""

from __future__ import annotations

import hashlib
import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

from laketag.errors import JobRefused, StoreError
from laketag.lake.location import Location
from laketag.lake.patience import OF_LANCE, explained
from laketag.lake.staged import LEASE, StagedFiles

LASTS = 90.0
"""Seconds after which a holder that does not renew is taken for dead."""
_RENEWALS = 3
_PAUSE = 0.5
"""Seconds, at most, from one attempt to the next."""
_held: set[str] = set()
"""The ids of the leases that this process holds."""


@lru_cache(maxsize=1)
def _neighbours() -> str:
    """Tell machines from each other, and containers on them, though all may have one name."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        processes = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return "unknown"  # no Linux: the name has to do
    return hashlib.sha256(f"{boot} {processes}".encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Lease:
    """A claim on some work, or on a slice of it."""

    since: int
    """Milliseconds since the epoch."""
    id: str
    expires: int
    """Milliseconds since the epoch."""
    part: str
    """`all`, or the slice: `3of64`."""
    pid: int
    host: str
    among: str = field(default_factory=_neighbours)
    """The processes that see each other, this one among them."""

    @property
    def file(self) -> str:
        """The staged file's name."""
        host = self.host.encode().hex()
        return f"{self.since}.{self.id}.{self.expires}.{self.part}.{self.pid}.{host}.{self.among}.lance"

    @classmethod
    def of(cls, file: str) -> Lease:
        """Read a staged file's name."""
        since, name, expires, part, pid, host, among, _ = file.split(".")
        return cls(int(since), name, int(expires), part, int(pid), bytes.fromhex(host).decode(), among)

    def is_dead(self) -> bool:
        """Whether it ran out, or its holder was a process that this one would see, and is gone.

        One of this very process that it does not hold any more could not be given back: the store failed.
        """
        is_neighbour = (self.host, self.among) == (socket.gethostname(), _neighbours())
        is_at_work = self.id in _held if self.pid == os.getpid() else _is_alive(self.pid)
        return self.expires < _now() or (is_neighbour and not is_at_work)

    def excludes(self, other: Lease) -> bool:
        """Whether both cannot hold at once; of slices only those of one division go beside each other."""
        is_same = self.part == other.part or self.part.partition("of")[2] != other.part.partition("of")[2]
        return self.id != other.id and (is_same or "all" in (self.part, other.part))


def _unsaid() -> None:
    """Wait in silence."""


@contextmanager
def leased(
    location: Location,
    work: str,
    name: str,
    part: str = "all",
    *,
    waits: float = 0.0,
    waiting: Callable[[], None] = _unsaid,
) -> Iterator[None]:
    """Hold a piece of work, or a slice of it, while the body runs.

    Args:
        location: the dataset's.
        work: the folder below `_laketag/` that stands for it.
        name: what people call it, for the message.
        part: `all`, which excludes every other, or a slice, which excludes itself, `all`, and slices of
            another number.
        waits: for so many seconds until another run has let it go.
        waiting: called again and again meanwhile.

    Raises:
        JobRefused: another run holds it; the text says who, since when, and when the lease runs out.
        StoreError: the store refuses, or does not answer.
    """
    folder = StagedFiles(location, f"{work}/{LEASE}")
    with explained(location.uri, stages=False):
        lease = _taken(folder, part, name, waits=waits, waiting=waiting)
    ended = threading.Event()
    thread = threading.Thread(target=_renew, args=(folder, lease, ended), daemon=True)
    is_reachable = True
    try:
        thread.start()
        with explained(location.uri):
            yield
    except StoreError:
        is_reachable = False  # the lease runs out by itself
        raise
    finally:
        ended.set()
        _held.discard(lease.id)
        if is_reachable:
            thread.join()
            folder.delete([file for file in folder.names() if Lease.of(file).id == lease.id])


def held_parts(location: Location, work: str) -> set[str]:
    """List the parts of a piece of work that somebody holds."""
    leases = map(Lease.of, StagedFiles(location, f"{work}/{LEASE}").names())
    return {lease.part for lease in leases if not lease.is_dead()}


def _taken(folder: StagedFiles, part: str, name: str, *, waits: float, waiting: Callable[[], None]) -> Lease:
    """Write a lease that no other one excludes."""
    deadline = time.monotonic() + waits
    while True:
        now, own = _now(), uuid.uuid4().hex[:12]
        lease = Lease(now, own, now + int(LASTS * 1000), part, os.getpid(), socket.gethostname())
        _held.add(own)
        try:
            _check(folder, lease, name)
            folder.mark(lease.file)
            _check(folder, lease, name)
        except BaseException as error:
            _held.discard(own)
            if not isinstance(error, JobRefused):
                raise
            folder.delete([lease.file])
            if time.monotonic() >= deadline:
                raise
        else:
            return lease
        waiting()
        time.sleep(random.uniform(0, _PAUSE))


def _check(folder: StagedFiles, lease: Lease, name: str) -> None:
    for other in map(Lease.of, folder.names()):
        if not lease.excludes(other):
            continue
        if other.is_dead():
            folder.delete([other.file])
        else:
            raise JobRefused(
                f"{name} is at work: process {other.pid} on {other.host}, since {_shown(other.since)}; wait "
                f"for it, or stop it (if it is dead, its lease runs out at {_shown(other.expires)})"
            )


def _renew(folder: StagedFiles, lease: Lease, ended: threading.Event) -> None:
    while not ended.wait(LASTS / _RENEWALS):
        following = replace(lease, expires=_now() + int(LASTS * 1000))
        try:
            folder.mark(following.file)
            folder.delete([lease.file])
        except OF_LANCE:
            continue  # the store does not answer; the next round tries it again
        lease = following


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _now() -> int:
    return int(time.time() * 1000)


def _shown(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
