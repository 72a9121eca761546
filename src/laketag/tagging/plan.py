"""The plan: which rows of which fragments, in chunks on a fixed grid. It reads no row and no image."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from laketag.lake.reading import RowRange

# Enough chunks in one task to decode the next while this one is predicted, few enough to share out.
_CHUNKS_PER_TASK = 8
_TASKS = 16


@dataclass(frozen=True, slots=True)
class Chunk:
    """The unit of work, retry and checkpoint: rows of one fragment, or small fragments from end to end."""

    key: str
    """A name from the sources and the row ranges: the same in every version that holds them."""
    ranges: tuple[RowRange, ...]
    """In the dataset's order; several only where each is a whole fragment."""

    @classmethod
    def of(cls, ranges: Sequence[RowRange]) -> Chunk:
        """Name some ranges."""
        text = "\n".join(f"{part.source} {part.start} {part.stop}" for part in ranges)
        return cls(hashlib.sha256(text.encode()).hexdigest()[:24], tuple(ranges))

    def read_from(self, sources: Mapping[int, str]) -> Chunk:
        """Give the same rows with other sources, by fragment: those of a tagger that reads other columns."""
        ranges = (RowRange(r.fragment, sources[r.fragment], r.start, r.stop) for r in self.ranges)
        return Chunk(self.key, tuple(ranges))

    @property
    def rows(self) -> int:
        """Physical rows."""
        return sum(part.stop - part.start for part in self.ranges)


@dataclass(frozen=True)
class End:
    """The last row that a run may touch: what `--limit` comes down to."""

    fragment: int
    """The id of the last fragment, in the dataset's order."""
    offset: int
    """The physical offset of the last row in it."""


def chunks_of(ranges: Sequence[RowRange], chunk_rows: int, end: End | None = None) -> Iterator[Chunk]:
    """Cut fragments into chunks of at most `chunk_rows` rows, and group those that are smaller.

    The grid is fixed by the fragments alone, so that a chunk is the same whatever was done before.
    """
    small: list[RowRange] = []
    rows = 0
    for part in _until(ranges, end):
        if small and (part.stop > chunk_rows or rows + part.stop > chunk_rows):
            yield Chunk.of(small)
            small, rows = [], 0
        is_cut = end is not None and part.fragment == end.fragment
        if part.stop <= chunk_rows and not is_cut:
            small.append(part)
            rows += part.stop
            continue
        for start in range(part.start, part.stop, chunk_rows):
            stop = min(start + chunk_rows, part.stop)
            yield Chunk.of([RowRange(part.fragment, part.source, start, stop)])
    if small:
        yield Chunk.of(small)


def grouped(chunks: Sequence[Chunk]) -> Iterator[tuple[Chunk, ...]]:
    """Group chunks into tasks: neighbours together, and enough tasks to keep workers busy to the end."""
    size = max(1, min(_CHUNKS_PER_TASK, len(chunks) // _TASKS))
    for first in range(0, len(chunks), size):
        yield tuple(chunks[first : first + size])


def is_in_slice(key: str, part: tuple[int, int] | None) -> bool:
    """Whether a chunk is in a slice: by its key, so that machines agree also where versions differ."""
    return part is None or int(key, 16) % part[1] == part[0] - 1


def _until(ranges: Sequence[RowRange], end: End | None) -> Iterator[RowRange]:
    for part in ranges:
        if end is not None and part.fragment == end.fragment:
            yield replace(part, stop=end.offset + 1)
            return
        yield part
