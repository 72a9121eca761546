"""Rows that point into tars: what the tars were when they were linked, and whether they still are."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from urllib.parse import quote

import pyarrow as pa

from laketag.errors import LinkBroken
from laketag.lake import objects
from laketag.lake.location import Location
from laketag.lake.patience import at_once
from laketag.lake.staged import StagedFiles

FOLDER = "links"
"""Below `_laketag/`: notes on the tars that rows point into."""
REFERENCE = pa.struct([("tar", pa.string()), ("offset", pa.int64()), ("size", pa.int64())])
"""Bytes of a tar, as a value of a column that is being written."""
_AT_ONCE = 16
_NAMED = 3


@dataclass(frozen=True)
class Link:
    """A tar that rows point into, as it was then."""

    tar: str
    """An absolute path, or an address on the dataset's store."""
    size: int
    modified: int
    """When it was written, in nanoseconds since 1970."""
    etag: str
    """The store's own mark of these very bytes; nothing where there is none."""

    def is_still(self, now: Link) -> bool:
        """Whether it has the same bytes now; on a store it may have been put back, and has another time."""
        return self == (replace(now, modified=self.modified) if self.etag else now)


@lru_cache(maxsize=16)  # asked for every row of a tar
def address(tar: str) -> str:
    """Write a tar's place as Lance keeps it in rows."""
    scheme, found, rest = tar.partition("://")
    return f"{scheme}://{quote(rest)}" if found else f"file://{quote(tar)}"


def note_links(location: Location, links: Iterable[Link]) -> None:
    """Note what the tars are, right before rows that point into them are committed, one import at a time.

    The latest note on a tar holds: the commit after an earlier one failed.
    """
    rows = [asdict(link) for link in links]
    if rows:
        notes = StagedFiles(location, FOLDER)
        # Later than all others also by a clock that is behind.
        number = max([time.time_ns(), *(int(name.partition("-")[0]) + 1 for name in notes.names())])
        notes.write(f"{number:020d}-{uuid.uuid4().hex}.lance", pa.Table.from_pylist(rows))


def require_links(location: Location) -> int:
    """Make sure that every tar that rows point into is there and is what it was; returns how many there are.

    Lance would read whatever bytes lie there now. It costs a listing where nothing is linked, else a look at
    each tar.

    Raises:
        LinkBroken: a tar is gone, or was changed.
    """
    notes = StagedFiles(location, FOLDER)
    linked: dict[str, Link] = {}
    for name in notes.names():
        for row in notes.read(name).to_pylist():
            linked[row["tar"]] = Link(**row)
    if not linked:
        return 0
    faults = at_once(partial(_fault, location), list(linked.values()), _AT_ONCE)
    if broken := [why for why in faults if why]:
        more = f" (and {len(broken) - _NAMED} more)" if len(broken) > _NAMED else ""
        raise LinkBroken(
            f"rows of {location.uri} point into tars that are not what they were: "
            f"{'; '.join(broken[:_NAMED])}{more}; put them back as they were, "
            f"{'byte for byte' if location.scheme else 'times included (cp -p)'}, "
            "or import them anew without --link"
        )
    return len(linked)


def _fault(location: Location, link: Link, given_up: threading.Event) -> str | None:
    now = _now(location, link.tar, given_up)
    if now is None:
        return f"{link.tar} is gone"
    return None if link.is_still(now) else f"{link.tar} was changed"


def _now(location: Location, tar: str, given_up: threading.Event) -> Link | None:
    if "://" in tar:
        found = objects.find_object(Location.of(tar, location.storage_options), given_up)
        return None if found is None else Link(tar, found.size, found.modified, found.etag)
    try:
        status = os.stat(tar)
    except FileNotFoundError:
        return None
    return Link(tar, status.st_size, status.st_mtime_ns, "")
