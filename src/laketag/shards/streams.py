"""The bytes of a tar, plain or gzip, read from front to back in bounded memory."""

from __future__ import annotations

import os
import zlib
from typing import Protocol

from laketag.shards.bodies import LARGE, Slabs

_LEAST, _MOST = 4 << 10, 256 << 10
_FEED = 64 << 10
GZIP = b"\x1f\x8b"
"""What a gzip file begins with."""


class Stream(Protocol):
    """A tar's bytes in order; offsets count the bytes of the tar itself, decompressed."""

    @property
    def position(self) -> int:
        """The offset of the next byte."""

    @property
    def left(self) -> int | None:
        """Bytes to the end; None where only reading tells."""

    @property
    def fault(self) -> str | None:
        """Why the bytes ended early, once they have; None where they did not."""

    @property
    def taken(self) -> int:
        """Bytes that were read so far from where the tar lies."""

    def read(self, size: int) -> bytes:
        """Read bytes; fewer than asked for only at the end."""

    def body(self, size: int) -> bytes | memoryview:
        """Read like `read`, where that is of use into memory that is taken again when it is let go."""

    def skip(self, size: int) -> int:
        """Go forward; returns how far, which is less than asked for only at the end."""

    def close(self) -> None:
        """Let go of the file."""


class Seekable(Stream, Protocol):
    """A tar that can also be read at any offset."""

    def read_at(self, offset: int, size: int) -> bytes:
        """Read bytes anywhere; the position stays."""


def open_local(path: str, slabs: Slabs | None = None) -> Stream:
    """Open a local tar; gzip is told by its content, whatever the name says.

    Args:
        path: where it is.
        slabs: where large bodies are read to, if several tars are read.
    """
    with open(path, "rb") as file:
        is_gzip = file.read(2) == GZIP
    return GzipStream(open(path, "rb", buffering=0)) if is_gzip else PlainStream(path, slabs)


class PlainStream:
    """An uncompressed tar, which can also be read at any offset.

    Large bodies are read straight to where they are written from; headers and small bodies as blocks, which
    are larger where these lie close together.
    """

    fault: str | None = None

    def __init__(self, path: str, slabs: Slabs | None = None) -> None:
        """Open the file."""
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115  # closed by close()
        self._size = os.fstat(self._file.fileno()).st_size
        self._slabs = slabs or Slabs()
        self._start, self._block, self._length = 0, b"", _LEAST  # what is at hand, and where it begins
        self.position = self.taken = self._read_to = 0

    @property
    def left(self) -> int:
        """Bytes to the end."""
        return self._size - self.position

    def read(self, size: int) -> bytes:
        """Read bytes; fewer than asked for only at the end."""
        at = self.position - self._start
        found = self._block[at : at + size]
        if len(found) < size:
            found += self._beyond(self.position + len(found), size - len(found))
        self.position += len(found)
        return found

    def _beyond(self, at: int, size: int) -> bytes:
        """Read bytes, and a block with them; what was passed over shortly before them, too."""
        gap = at - self._read_to if at - self._read_to < _LEAST else None
        self._length = _LEAST if gap is None else min(2 * self._length, _MOST)
        gap = gap or 0
        self._start = at - gap
        wanted = max(0, min(gap + max(size, self._length), self._size - self._start))
        self._block = self._read(self._start, wanted)
        self._count(self._start, len(self._block))
        return self._block[gap : gap + size]

    def _read(self, at: int, size: int) -> bytes:
        found = os.pread(self._file.fileno(), size, at)
        # Some mounted stores give less than was asked for, though it is not the end.
        while len(found) < size and (
            more := os.pread(self._file.fileno(), size - len(found), at + len(found))
        ):
            found += more
        return found

    def _count(self, start: int, size: int) -> None:
        self.taken += size
        self._read_to = start + size

    def body(self, size: int) -> bytes | memoryview:
        """Read bytes; many of them straight to where they are written from."""
        size = min(size, max(self.left, 0))
        if size < LARGE:
            return self.read(size)
        room = self._slabs.take(size)
        at = self.position - self._start
        held = self._block[at : at + size]
        got = len(held)
        room[:got] = held
        while got < size and (more := self._read_into(room[got:], self.position + got)):
            got += more
        self.position += got
        return room[:got]

    def _read_into(self, room: memoryview, at: int) -> int:
        got = os.preadv(self._file.fileno(), [room], at)
        self._count(at, got)
        self._length = _LEAST // 2  # where bodies are large, the next block is small again
        return got

    def skip(self, size: int) -> int:
        """Go forward; returns how far."""
        far = min(size, max(self._size - self.position, 0))
        self.position += far
        return far

    def read_at(self, offset: int, size: int) -> bytes:
        """Read bytes anywhere; the position stays."""
        self.taken += size
        return self._read(offset, size)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


class Raw(Protocol):
    """Where compressed bytes come from."""

    def read(self, size: int, /) -> bytes:
        """Read at most so many bytes; none at the end."""

    def close(self) -> None:
        """Let go of it."""


class GzipStream:
    """A gzip tar, of one or several gzip members; what comes before a damage is read."""

    left: int | None = None

    def __init__(self, file: Raw) -> None:
        """Unpack what a file has; it is closed with the stream."""
        self._file = file
        self.taken = 0
        self._inflate = zlib.decompressobj(wbits=31)
        self._input = b""
        self._ready = bytearray()
        self._at_end = False
        self.position = 0
        self.fault: str | None = None

    def read(self, size: int) -> bytes:
        """Read bytes; fewer than asked for only at the end."""
        while len(self._ready) < size and not self._at_end:
            self._ready += self._more()
        found = bytes(self._ready[:size])
        del self._ready[:size]
        self.position += len(found)
        return found

    def body(self, size: int) -> bytes:
        """Read bytes."""
        return self.read(size)

    def skip(self, size: int) -> int:
        """Go forward; returns how far."""
        start = self.position
        while (want := size - (self.position - start)) > 0 and self.read(min(want, 1 << 20)):
            pass
        return self.position - start

    def _more(self) -> bytes:
        if self._inflate.eof and not self._next_member():
            return b""
        if not self._input:
            self._input = self._compressed()
        if not self._input:
            return self._end("the gzip stream is cut off")
        before = self._inflate.copy()
        try:
            # The output is bounded too: a gzip bomb must not fill the memory.
            found = self._inflate.decompress(self._input, 1 << 20)
        except zlib.error as error:
            return self._salvage(before, error)
        self._input = self._inflate.unconsumed_tail
        return found

    def _compressed(self) -> bytes:
        found = self._file.read(_FEED)
        self.taken += len(found)
        return found

    def _next_member(self) -> bool:
        rest = self._inflate.unused_data.lstrip(b"\0")
        while not rest and (found := self._compressed()):
            rest = found.lstrip(b"\0")
        if rest[:1] == b"\x1f":
            self._inflate, self._input = zlib.decompressobj(wbits=31), rest
            return True
        self._end("bytes that are no gzip follow the gzip stream" if rest else None)
        return False

    def _salvage(self, inflate: zlib._Decompress, error: zlib.error) -> bytes:
        """Give what lies before the damage: zlib keeps back the whole output of a call that fails."""
        found = bytearray()
        try:
            for byte in self._input:
                found += inflate.decompress(bytes([byte]))
        except zlib.error:
            pass  # This is the damage itself; it is reported below.
        self._end(f"the gzip stream is damaged ({str(error).split(': ')[-1]})")
        return bytes(found)

    def _end(self, fault: str | None) -> bytes:
        self._at_end, self.fault = True, fault
        return b""

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()
