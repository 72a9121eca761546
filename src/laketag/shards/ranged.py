"""A tar that lies elsewhere, read as ranges of bytes, several of them ahead, each again where it fails."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet

from laketag.engines import stopping
from laketag.errors import Interrupted
from laketag.lake.patience import patiently
from laketag.shards import remote
from laketag.shards.bodies import Slabs
from laketag.shards.shard import Shard
from laketag.shards.streams import GZIP, GzipStream, Stream, open_local

BLOCK = 8 << 20
AHEAD = 4
_SPARING_BLOCK = 1 << 20


def open_stream(shard: Shard, slabs: Slabs | None = None, *, sparing: bool = False) -> Stream:
    """Open a shard, wherever it lies; gzip is told by its content.

    Args:
        shard: which.
        slabs: where large bodies of local shards are read to.
        sparing: most bodies will be skipped, so that little should be read ahead.
    """
    if shard.is_local:
        return open_local(shard.path, slabs)
    stream = RangedStream(shard, block=_SPARING_BLOCK, ahead=1) if sparing else RangedStream(shard)
    return GzipStream(stream) if stream.peek(2) == GZIP else stream


class RangedStream:
    """An uncompressed tar elsewhere. A range that fails is read again, at its own offset."""

    fault: str | None = None

    def __init__(self, shard: Shard, *, block: int | None = None, ahead: int = AHEAD) -> None:
        """Read nothing yet."""
        self.position = self.taken = 0
        self._shard, self._block_size, self._ahead = shard, block or BLOCK, ahead
        self._start, self._block = 0, b""  # what is at hand, and where in the tar it begins
        self._coming: deque[tuple[int, Future[bytes]]] = deque()
        self._next = 0
        self._closed = threading.Event()
        self._pool = ThreadPoolExecutor(ahead)

    @property
    def left(self) -> int:
        """Bytes to the end."""
        return self._shard.size - self.position

    def peek(self, size: int) -> bytes:
        """Look at the next bytes; the position stays."""
        at = self.position
        found = self.read(size)
        self.position = at
        return found

    def read(self, size: int) -> bytes:
        """Read bytes; fewer than asked for only at the end."""
        pieces = []
        while (want := min(size, self.left)) > 0:
            self._come_to(self.position)
            at = self.position - self._start
            piece = self._block[at : at + want]
            pieces.append(piece)
            self.position += len(piece)
            size -= len(piece)
        return b"".join(pieces) if len(pieces) != 1 else pieces[0]

    def body(self, size: int) -> bytes:
        """Read bytes."""
        return self.read(size)

    def skip(self, size: int) -> int:
        """Go forward; returns how far. What was not asked for yet, and is passed over, is not read."""
        far = min(size, max(self.left, 0))
        self.position += far
        return far

    def read_at(self, offset: int, size: int) -> bytes:
        """Read bytes anywhere; the position stays."""
        if not size:
            return b""
        return self._waited_for(self._pool.submit(self._fetch, offset, size))

    def close(self) -> None:
        """Give up what is still being read."""
        self._closed.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _come_to(self, position: int) -> None:
        """Make the block with a position the one at hand, and ask for those after it."""
        while not self._start <= position < self._start + len(self._block):
            while self._coming and not 0 <= position - self._coming[0][0] < self._block_size:
                self._coming.popleft()[1].cancel()
            if not self._coming:
                self._next = position
                self._ask()
            self._start, coming = self._coming.popleft()
            self._block = self._waited_for(coming)
        self._ask()

    def _ask(self) -> None:
        while len(self._coming) < self._ahead and self._next < self._shard.size:
            length = min(self._block_size, self._shard.size - self._next)
            self._coming.append((self._next, self._pool.submit(self._fetch, self._next, length)))
            self._next += length

    def _fetch(self, start: int, length: int) -> bytes:
        found = patiently(
            lambda: remote.read_range(self._shard, start, length),
            lambda error: isinstance(error, OSError),
            given_up=self._closed,
        )
        self.taken += length
        return found

    def _waited_for(self, coming: Future[bytes]) -> bytes:
        while True:
            try:
                return coming.result(timeout=0.5)
            except NotYet:
                if coming.done():  # meanwhile, or it is the read's own timeout
                    return coming.result()
                if stopping.requested():
                    raise Interrupted("the import was stopped; run the same command again to go on") from None
