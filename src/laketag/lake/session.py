"""A session for all files of a folder: on a store they share its connections."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

from laketag.lake.location import Location

if TYPE_CHECKING:
    from lance.file import LanceFileSession

T = TypeVar("T")
R = TypeVar("R")

# A request to a store waits for tens of milliseconds, a disk does not; there the cores are the limit.
_THREADS_ON_A_STORE = 32
_THREADS_ON_A_DISK = 4
_AT_A_TIME = 1024  # bounds what waits in the pool, whatever there is to do
# A session keeps the credentials that Lance found when it was opened, in the environment or in a file.
_SECONDS = 30


def session_of(location: Location) -> LanceFileSession:
    """Give the session of a folder, opened anew twice a minute; names are relative to the folder."""
    options = tuple(sorted(location.storage_options.items()))
    return _session(location.uri, options, int(monotonic() // _SECONDS))


@lru_cache(maxsize=16)
def _session(uri: str, options: tuple[tuple[str, str], ...], _: int) -> LanceFileSession:
    from lance.file import LanceFileSession

    return LanceFileSession(uri, storage_options=dict(options))


def delete_file(location: Location, name: str) -> None:
    """Delete a file of a folder; one that is gone is no error."""
    session = session_of(location)
    try:
        session.delete_file(name)
    except OSError:
        if session.contains(name):
            raise


def many(location: Location, action: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """Do something with many files of a folder, several at a time; yields the results in order."""
    if len(items) < 2:
        yield from map(action, items)
        return
    with ThreadPoolExecutor(_THREADS_ON_A_DISK if location.is_local else _THREADS_ON_A_STORE) as pool:
        for first in range(0, len(items), _AT_A_TIME):
            yield from pool.map(action, items[first : first + _AT_A_TIME])
