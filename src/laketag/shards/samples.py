"""Members become samples: what belongs together, under which key, in which column."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field

from laketag.shards.ledger import Ledger
from laketag.shards.sources import Shard
from laketag.shards.streams import PlainStream, open_stream
from laketag.shards.tar import MAX_BODY, Lost, Member, walk

TEXT_COLUMNS = ("json", "txt", "cls")
"""Members whose columns get their types when all shards are known."""
TWICE = "a second member of this key and extension; the first is kept"
JOINED = "its members are not adjacent in the shard; they were joined"
_NAME = re.compile(r"((?:.*/|)[^.]+)[.]([^/]*)", re.DOTALL)
_RESERVED = re.compile(r"__[^/]*__")


@dataclass
class Sample:
    """One row to be."""

    key: str
    """Folder and name up to the first dot."""
    offset: int
    """Where its first member's header is in the tar."""
    members: dict[str, bytes] = field(default_factory=dict)
    """Bodies by column."""


class Unordered(Exception):
    """A key that came back after other keys: the shard must be read by its index."""


def split_name(name: str) -> tuple[str, str] | str:
    """Split a member's name into key and column, or say why it belongs to no sample."""
    parts = _NAME.fullmatch(name)
    if parts is None or parts[1].endswith("/"):
        is_hidden = name.rpartition("/")[2].startswith(".")
        return "a hidden file" if is_hidden else "its name has no extension"
    key, extension = parts[1], parts[2]
    # Only whole path components count: `__init__` is one, `__a` is not.
    if any(_RESERVED.fullmatch(part) for part in key.split("/")):
        return "its name is reserved (__...__) and makes no sample"
    if not extension:
        return "its name has no extension"
    return key, extension.lower().replace(".", "_")


def is_wanted(name: str) -> bool:
    """Whether a member of this name belongs to a sample."""
    return isinstance(split_name(name), tuple)


def read_samples(shard: Shard, ledger: Ledger) -> Iterator[Sample]:
    """Yield a shard's samples in one pass over its bytes.

    Raises:
        Unordered: the members of a sample are not adjacent; `read_joined` reads such a shard.
    """
    seen: set[int] = set()
    sample: Sample | None = None
    with open_stream(shard.path) as stream:
        for member in walk(stream, is_wanted):
            place = _place(member, ledger)
            if place is None or not isinstance(member, Member):
                continue
            key, column = place
            if sample is None or key != sample.key:
                if sample is not None:
                    yield sample
                if hash(key) in seen:
                    raise Unordered
                # Hashes, not keys: a clash only means that the shard is read by its index.
                seen.add(hash(key))
                sample = Sample(key, member.header)
            _add(sample, column, member.body or b"", member.name, ledger)
    if sample is not None:
        yield sample


@dataclass
class _Indexed:
    offset: int
    is_joined: bool = False
    members: dict[str, tuple[int, int]] = field(default_factory=dict)


def read_joined(shard: Shard, ledger: Ledger) -> Iterator[Sample]:
    """Yield a shard's samples by an index of its headers, members joined wherever they lie."""
    with _seekable(shard, ledger) as stream:
        for key, found in _index(stream, ledger).items():
            if found.is_joined:
                ledger.skip(key, JOINED)
            sample = Sample(key, found.offset)
            for column, (offset, size) in found.members.items():
                sample.members[column] = stream.read_at(offset, size)
            yield sample


def _index(stream: PlainStream, ledger: Ledger) -> dict[str, _Indexed]:
    index: dict[str, _Indexed] = {}
    previous = None
    for member in walk(stream, lambda name: False):
        place = _place(member, ledger)
        if place is None or not isinstance(member, Member):
            continue
        key, column = place
        found = index.setdefault(key, _Indexed(member.header))
        found.is_joined = found.is_joined or (bool(found.members) and previous != key)
        previous = key
        if column in found.members:
            ledger.skip(member.name, TWICE)
        else:
            found.members[column] = (member.data, member.size)
    return index


def _seekable(shard: Shard, ledger: Ledger) -> PlainStream:
    """Open a shard for reading at any offset; a gzip one is first unpacked to a temporary file."""
    stream = open_stream(shard.path)
    if isinstance(stream, PlainStream):
        return stream
    with stream, tempfile.NamedTemporaryFile(prefix="laketag-") as file:
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
        return None
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


def _add(sample: Sample, column: str, body: bytes, name: str, ledger: Ledger) -> None:
    if column in sample.members:
        ledger.skip(name, TWICE)
    else:
        sample.members[column] = body
