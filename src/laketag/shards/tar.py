"""The header walk: every member of a tar that can be read, and every stretch that cannot."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from laketag.shards.streams import Stream

BLOCK = 512
MAX_BODY = (1 << 31) - (1 << 24)
"""A value of an Arrow binary array, with those beside it, is addressed with 32 bits."""
_MAX_EXTENDED = 1 << 24
_ZERO = bytes(BLOCK)
_OTHER = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a device",
    b"4": "a device",
    b"5": "a directory",
    b"6": "a pipe",
    b"S": "a sparse file",
}
# What other packed files begin with.
_PACKED = {b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"PK\x03\x04": "zip"}
_FILE = (b"0", b"\0", b"7")
_NO_BODY = b"123456"


class Member(NamedTuple):
    """One file in a tar; a tuple, since a shard may have millions."""

    name: str
    """Its whole name, from whichever header has it."""
    kind: str
    """`file`, or what else it is, in words."""
    header: int
    """Offset of its first header, long-name headers included."""
    data: int
    """Offset of its body."""
    size: int
    """Bytes of its body."""
    body: bytes | memoryview | None = None
    """The body, where it was wanted."""


@dataclass(frozen=True)
class Lost:
    """A stretch of a tar that cannot be read."""

    offset: int
    """Where it begins."""
    reason: str
    """What is wrong there, and how much is lost."""
    name: str = ""
    """Of the file that is cut off there; nothing where that is not known."""


class _Damaged(Exception):
    """A header that cannot be believed."""


@dataclass
class _Names:
    """What long-name and PAX headers say of the member that follows them."""

    start: int
    path: str | None = None
    size: int | None = None
    is_sparse: bool = False


def walk(stream: Stream, wanted: Callable[[Member], bool]) -> Iterator[Member | Lost]:
    """Yield a tar's members in order, with the bodies of the files that are wanted.

    Never raises for what is in the tar: damage, truncation and lies are yielded as `Lost`, and the walk goes
    on at the next header that can be believed. Archives that were concatenated are walked as one.
    """
    return _Walk(stream, wanted).run()


class _Walk:
    def __init__(self, stream: Stream, wanted: Callable[[Member], bool]) -> None:
        self._stream = stream
        self._wanted = wanted
        self._names: _Names | None = None
        self._path_for_all: str | None = None
        self._zeros = 0
        self._next = b""
        self._end_is_told = False

    def run(self) -> Iterator[Member | Lost]:
        while block := self._next or self._stream.read(BLOCK):
            self._next = b""
            at = self._stream.position - len(block)
            if block == _ZERO:
                self._zeros += 1
            elif len(block) < BLOCK:
                yield self._cut_header(at, block)
            else:
                # After the end of an archive another one may follow.
                after_end, self._zeros = self._zeros >= 2, 0
                yield from self._one(block, at, after_end)
        yield from self._finish()

    def _one(self, block: bytes, at: int, after_end: bool) -> list[Member | Lost]:
        """Read what one header announces."""
        try:
            return self._member(block, at, _check(block))
        except _Damaged as damage:
            self._names = None
            self._next = self._resynchronise()
            end = self._stream.position - len(self._next)
            self._end_is_told = not self._next
            if after_end and not self._next:
                return [Lost(at, f"{end - at} bytes after the end of the archive are no tar")]
            border = "the next header" if self._next else "the end"
            return [Lost(at, f"{damage}; {end - at} bytes are lost, up to {border}")]

    def _resynchronise(self) -> bytes:
        while len(block := self._stream.read(BLOCK)) == BLOCK:
            if block[257:262] != b"ustar":
                continue
            try:
                _check(block)
            except _Damaged:
                continue
            return block
        return b""

    def _member(self, block: bytes, at: int, size: int) -> list[Member | Lost]:
        kind = block[156:157]
        if kind in b"LKxgX":
            return self._extended(block, at, size)
        start, path, names, self._names = at, self._path_for_all, self._names, None
        if names is not None:
            start = names.start
            path = names.path or path
            size = size if names.size is None else names.size
        name = path or _name(block)
        what = "file" if kind in _FILE else _OTHER.get(kind, f"a member of type {kind!r}")
        if kind in _NO_BODY:
            size = 0
        elif kind == b"S":
            self._skip_sparse_map(block)
        elif what == "file" and name.endswith("/"):
            what = "a directory"
        elif what == "file" and names is not None and names.is_sparse:
            what = "a sparse file"
        return self._body(Member(name, what, start, self._stream.position, size))

    def _body(self, member: Member) -> list[Member | Lost]:
        left = self._stream.left
        if left is not None and member.size > left:
            # The size may be a lie, with good members behind it.
            self._next = self._resynchronise()
            return self._cut_body(member, left)
        if member.kind == "file" and member.size <= MAX_BODY and self._wanted(member):
            body = _read_all(self._stream, member.size)
            got = len(body)
            self._stream.skip(-got % BLOCK)
            member = Member(member.name, member.kind, member.header, member.data, member.size, body)
        else:
            got = self._stream.skip(member.size + -member.size % BLOCK)
        return self._cut_body(member, got) if got < member.size else [member]

    def _cut_body(self, member: Member, got: int) -> list[Member | Lost]:
        self._end_is_told = not self._next
        reason = f"{member.name!r} is cut off: {got} of {member.size} bytes are there"
        return [Lost(member.header, reason, member.name if member.kind == "file" else "")]

    def _extended(self, block: bytes, at: int, size: int) -> list[Member | Lost]:
        kind = block[156:157]
        if size > _MAX_EXTENDED:
            raise _Damaged(f"a header extension claims {size} bytes")
        body = self._stream.read(size)
        if len(body) < size:
            self._end_is_told = True
            return [Lost(at, "cut off inside a header extension")]
        self._stream.skip(-size % BLOCK)
        names = _Names(at) if kind == b"g" else self._names or _Names(at)
        is_sound = True
        if kind == b"L":
            names.path = _text(body.rstrip(b"\0"))
        elif kind != b"K":
            is_sound = _read_pax(body, names)
        if kind == b"g":
            self._path_for_all = names.path or self._path_for_all
        else:
            self._names = names
        if is_sound:
            return []
        return [Lost(at, "a damaged PAX header; the next member may go by a shortened name")]

    def _skip_sparse_map(self, block: bytes) -> None:
        more = block[482:483] != b"\0"
        while more:
            block = self._stream.read(BLOCK)
            more = len(block) == BLOCK and block[504:505] != b"\0"

    def _cut_header(self, at: int, block: bytes) -> Lost:
        self._end_is_told = True
        if self._zeros >= 2:
            return Lost(at, f"{len(block)} bytes after the end of the archive are no tar")
        name = _text(block[:100].split(b"\0", 1)[0])
        return Lost(at, f"cut off inside a header: {len(block)} of {BLOCK} bytes are there", name)

    def _finish(self) -> Iterator[Lost]:
        end = self._stream.position
        if self._stream.fault is not None:
            yield Lost(end, self._stream.fault)
        elif end == 0:
            yield Lost(0, "the file is empty")
        elif self._names is not None:
            yield Lost(self._names.start, "cut off after a header extension")
        elif self._zeros < 2 and not self._end_is_told:
            yield Lost(end, "no end-of-archive blocks: cut off at a member's border, or never finished")


def _read_all(stream: Stream, size: int) -> bytes | memoryview:
    """Read a body; in pieces where its size is only a claim, so that a lie does not reserve memory."""
    if stream.left is not None or size <= 1 << 24:
        return stream.body(size)
    pieces = []
    while size and (piece := stream.read(min(size, 1 << 24))):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def _packed(block: bytes) -> str | None:
    found = next((name for start, name in _PACKED.items() if block.startswith(start)), None)
    return found and f"packed with {found}, which is not read: unpack it, or pack it with gzip"


def _check(block: bytes) -> int:
    """Believe a header, or not; returns the size it gives."""
    try:
        stored = _number(block[148:156])
    except ValueError:
        raise _Damaged(_packed(block) or "a damaged header") from None
    unsigned = _sum(block) - sum(block[148:156]) + 8 * 32
    # Some old writers summed signed bytes.
    if stored != unsigned and stored != unsigned - 256 * sum(b > 127 for b in block[:148] + block[156:]):
        raise _Damaged(_packed(block) or "a damaged header (its checksum is wrong)")
    try:
        size = _number(block[124:136])
    except ValueError:
        raise _Damaged("a header without a readable size") from None
    if size < 0:
        raise _Damaged(f"a header with the size {size}")
    return size


def _sum(block: bytes) -> int:
    """Add up a header's bytes, at a sixth of what `sum` takes.

    Adler-32 holds one more than the sum, modulo 65521, which half a header does not reach.
    """
    return (zlib.adler32(block[:256]) & 0xFFFF) + (zlib.adler32(block[256:]) & 0xFFFF) - 2


def _number(raw: bytes) -> int:
    if raw[0] & 0x80:
        value = int.from_bytes(raw, "big")
        return value - (1 << 8 * len(raw)) if raw[0] == 0xFF else value & ((1 << (8 * len(raw) - 1)) - 1)
    text = raw.rstrip(b"\0 ")
    if not text.isdigit():
        text = raw.split(b"\0", 1)[0].strip()
        if not text:
            return 0
        if not text.isdigit():
            raise ValueError(text)
    return int(text, 8)


def _name(block: bytes) -> str:
    name = block[:100].split(b"\0", 1)[0]
    prefix = block[345:500].split(b"\0", 1)[0]
    # GNU's own format ends its magic with blanks and keeps other things where ustar has the prefix.
    if prefix and block[257:263] == b"ustar\0":
        name = prefix + b"/" + name
    return _text(name)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")


def _read_pax(body: bytes, names: _Names) -> bool:
    """Take path and size from PAX records; False where the records do not add up."""
    at = 0
    while at < len(body) and body[at] != 0:
        blank = body.find(b" ", at, at + 20)
        digits = body[at:blank] if blank > 0 else b""
        if not digits.isdigit():
            return False
        end = at + int(digits)
        key, equals, value = body[blank + 1 : end - 1].partition(b"=")
        if end <= blank or end > len(body) or body[end - 1] != 10 or not equals:
            return False
        if not _take(key, value, names):
            return False
        at = end
    return True


def _take(key: bytes, value: bytes, names: _Names) -> bool:
    if key in (b"path", b"GNU.sparse.name"):
        names.path = _text(value)
    if key == b"size":
        if not value.isdigit() or len(value) > 20:
            return False
        names.size = int(value)
    if key.startswith(b"GNU.sparse."):
        names.is_sparse = True
    return True
