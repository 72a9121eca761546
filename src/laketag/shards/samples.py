"""Members become samples: what belongs together, under which key, in which column."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Set
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeVar

from laketag.errors import ShardRefused
from laketag.shards.bodies import Slabs
from laketag.shards.ledger import Ledger
from laketag.shards.ranged import RangedStream, open_stream
from laketag.shards.shard import Shard
from laketag.shards.streams import GzipStream, PlainStream, Seekable, Stream
from laketag.shards.tar import MAX_BODY, Lost, Member, walk

TEXT_COLUMNS = ("json", "txt", "cls")
"""Members whose columns get their types when all shards are known."""
TWICE = "a second member of this key and extension; the first is kept"
JOINED = "its members are not adjacent in the shard; they were joined"
CUT = "this sample is cut off in the shard; it is added when the shard comes whole"
_RESERVED = re.compile(r"__[^/]*__")


@dataclass(slots=True)
class Sample:
    """One row to be."""

    key: str
    """Folder and name up to the first dot."""
    offset: int
    """Where its first member's header is in the tar."""
    members: dict[str, bytes | memoryview] = field(default_factory=dict)
    """Bodies by column, text as bytes."""
    places: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Offset and size in the tar, by column, of bodies that are not read."""
    cut: frozenset[str] = frozenset()
    """Columns whose members are cut off in the tar."""
    borders: bool = False
    """Whether what comes right before or after one of its members in the tar cannot be read."""


@dataclass
class Choice:
    """Which bodies are read, and what that took."""

    leaves: Callable[[str, int], bool] = lambda column, size: False
    """Whether a body of a column and size is left where it is, and only its place is noted."""
    needs_places: bool = False
    """Whether the places must hold in the shard as it is, which a gzip shard's do not."""
    is_sparing: bool = False
    """Whether most bodies are left."""
    slabs: Slabs = field(default_factory=Slabs)
    """Where large bodies are read to."""
    taken: int = 0
    """Bytes that were read so far."""

    def takes(self, member: Member) -> bool:
        """Whether a member's body is read."""
        place = split_name(member.name)
        return isinstance(place, tuple) and not self.leaves(place[1], member.size)


class Unordered(Exception):
    """A key that came back after other keys: the shard must be read by its index."""


@lru_cache(maxsize=4)  # asked twice, soon after one another: whether to read a member, and where it belongs
def split_name(name: str) -> tuple[str, str] | str:
    """Split a member's name into key and column, or say why it belongs to no sample."""
    folder, slash, rest = name.rpartition("/")
    stem, dot, extension = rest.partition(".")
    if not stem or not dot:
        return "a hidden file" if dot else "its name has no extension"
    key = folder + slash + stem
    # Only whole path components count: `__init__` is one, `__a` is not.
    if "__" in key and any(_RESERVED.fullmatch(part) for part in key.split("/")):
        return "its name is reserved (__...__) and makes no sample"
    if not extension:
        return "its name has no extension"
    return key, extension.lower().replace(".", "_")


def read_samples(shard: Shard, ledger: Ledger, choice: Choice | None = None) -> Iterator[Sample]:
    """Yield a shard's samples in one pass over its bytes; all bodies are read but for those chosen otherwise.

    Raises:
        Unordered: the members of a sample are not adjacent; `read_joined` reads such a shard.
    """
    choice = choice or Choice()
    seen: set[int] = set()
    sample: Sample | None = None
    wholes = _Wholes(ledger)
    with _counted(_opened(shard, choice), choice) as stream:
        for member, borders in _with_borders(walk(stream, choice.takes)):
            place = _place(member, ledger)
            if place is None:
                continue
            key, column = place
            if sample is None or key != sample.key:
                if sample is not None and wholes.have(sample):
                    yield sample
                if hash(key) in seen:
                    raise Unordered
                # Hashes, not keys: a clash only means that the shard is read by its index.
                seen.add(hash(key))
                sample = Sample(key, _start(member))
            sample.borders |= borders
            _add(sample, column, member, ledger)
    if sample is not None and wholes.have(sample):
        yield sample


def read_joined(shard: Shard, ledger: Ledger, choice: Choice | None = None) -> Iterator[Sample]:
    """Yield a shard's samples by an index of its headers, members joined wherever they lie."""
    choice = choice or Choice()
    with _counted(_seekable(shard, ledger, choice), choice) as stream:
        index, wholes = _index(stream, ledger), _Wholes(ledger)
        for key in list(index):
            sample = index.pop(key)
            if not wholes.have(sample):
                continue
            for column, (offset, size) in list(sample.places.items()):
                if not choice.leaves(column, size):
                    del sample.places[column]
                    sample.members[column] = stream.read_at(offset, size)
            yield sample


def _index(stream: Seekable, ledger: Ledger) -> dict[str, Sample]:
    """List a shard's samples by key, with the places of all bodies."""
    index: dict[str, Sample] = {}
    joined: set[str] = set()
    previous = None
    for member, borders in _with_borders(walk(stream, lambda member: False)):
        place = _place(member, ledger)
        if place is None:
            continue
        key, column = place
        if key in index and key not in joined and key != previous:
            joined.add(key)
            ledger.skip(key, JOINED)
        previous = key
        sample = index.setdefault(key, Sample(key, _start(member)))
        sample.borders |= borders
        _add(sample, column, member, ledger)
    return index


S = TypeVar("S", bound=Stream)


@contextmanager
def _counted(stream: S, choice: Choice) -> Iterator[S]:
    """Close a stream in the end, and note what it took."""
    try:
        with closing(stream):
            yield stream
    finally:
        choice.taken += stream.taken


def _opened(shard: Shard, choice: Choice) -> Stream:
    stream = open_stream(shard, choice.slabs, sparing=choice.is_sparing)
    if choice.needs_places and isinstance(stream, GzipStream):
        stream.close()
        raise ShardRefused(f"rows cannot point into the gzip shard {shard.url}; import it without --link")
    return stream


def _seekable(shard: Shard, ledger: Ledger, choice: Choice) -> PlainStream | RangedStream:
    """Open a shard for reading at any offset; a gzip one is first unpacked to a temporary file."""
    stream = _opened(shard, choice)
    if isinstance(stream, PlainStream | RangedStream):
        return stream
    with closing(stream), tempfile.NamedTemporaryFile(prefix="laketag-") as file:
        while piece := stream.read(1 << 20):
            file.write(piece)
        file.flush()
        if stream.fault is not None:
            ledger.lose(stream.position, stream.fault)
        return PlainStream(file.name)


def _place(member: Member | Lost, ledger: Ledger) -> tuple[str, str] | None:
    """Say where a member belongs, or account for it."""
    if isinstance(member, Lost):
        ledger.lose(member.offset, member.reason)
        place = split_name(member.name)
        return place if isinstance(place, tuple) else None
    if member.kind != "file":
        ledger.skip(member.name, member.kind)
        return None
    place = split_name(member.name)
    if isinstance(place, str):
        ledger.skip(member.name, place)
        return None
    if member.size > MAX_BODY:
        ledger.lose(
            member.header, f"{member.name!r} has {member.size} bytes; a value holds at most {MAX_BODY}"
        )
        return None
    return place


def _start(member: Member | Lost) -> int:
    return member.offset if isinstance(member, Lost) else member.header


def _with_borders(found: Iterator[Member | Lost]) -> Iterator[tuple[Member | Lost, bool]]:
    """Yield what a tar holds, each with whether what comes right before or after it cannot be read."""
    after_loss, this = False, next(found, None)
    while this is not None:
        following = next(found, None)
        yield this, after_loss or isinstance(following, Lost)
        after_loss, this = isinstance(this, Lost), following


class _Wholes:
    """Which samples of a shard have all their members, as they come one after the other."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._usual: Set[str] = frozenset()

    def have(self, sample: Sample) -> bool:
        """Tell whether a sample is whole, or account for it.

        Beside what cannot be read, the end of the shard where it has no end marker included, a sample that
        has fewer members than the one before it may have lost some.
        """
        columns = sample.members.keys() | sample.places.keys()
        is_cut = bool(sample.cut) or (sample.borders and columns < self._usual)
        if not is_cut:
            self._usual = columns
        elif columns:
            self._ledger.skip(sample.key, CUT)
        return not is_cut


def _add(sample: Sample, column: str, member: Member | Lost, ledger: Ledger) -> None:
    is_there = column in sample.members or column in sample.places
    if isinstance(member, Lost):
        if not is_there:
            sample.cut |= {column}
        return
    if sample.cut:
        sample.cut -= {column}  # another one of it is whole
    if is_there:
        ledger.skip(member.name, TWICE)
    elif member.body is None:
        sample.places[column] = member.data, member.size
    else:
        sample.members[column] = bytes(member.body) if column in TEXT_COLUMNS else member.body
