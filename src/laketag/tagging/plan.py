"""The plan: which rows of which fragments, in chunks on a fixed grid. It reads no row and no image."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from laketag.lake.dataset import data_file, field_id
from laketag.lake.reading import RowRange

if TYPE_CHECKING:
    from laketag.lake.dataset import LanceDataset

# Enough chunks in one task to decode the next while this one is predicted, few enough to share out.
_CHUNKS_PER_TASK = 8
_TASKS = 16


@dataclass(frozen=True)
class Chunk:
    """The unit of work, retry and checkpoint: rows of one fragment, or small fragments from end to end."""

    ranges: tuple[RowRange, ...]
    """In the dataset's order; several only where each is a whole fragment."""

    @property
    def key(self) -> str:
        """A name from the image files and the row ranges: the same in every version that holds them."""
        text = "\n".join(f"{part.file} {part.start} {part.stop}" for part in self.ranges)
        return hashlib.sha256(text.encode()).hexdigest()[:24]

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


def ranges_of(dataset: LanceDataset, image_column: str) -> list[RowRange]:
    """List every fragment from end to end, with the data file that holds its images."""
    field = field_id(dataset.lance_schema, image_column)
    ranges = []
    for fragment in dataset.get_fragments():
        metadata = fragment.metadata
        # A fragment without the image column holds nulls: any file of it names its rows as well.
        file = data_file(metadata, field) or str(metadata.files[0].path)
        ranges.append(RowRange(fragment.fragment_id, file, 0, metadata.physical_rows))
    return ranges


def chunks_of(ranges: Sequence[RowRange], chunk_rows: int, end: End | None = None) -> Iterator[Chunk]:
    """Cut fragments into chunks of at most `chunk_rows` rows, and group those that are smaller.

    The grid is fixed by the fragments alone, so that a chunk is the same whatever was done before.
    """
    small: list[RowRange] = []
    for part in _until(ranges, end):
        if small and (part.stop > chunk_rows or sum(s.stop for s in small) + part.stop > chunk_rows):
            yield Chunk(tuple(small))
            small = []
        is_cut = end is not None and part.fragment == end.fragment
        if part.stop <= chunk_rows and not is_cut:
            small.append(part)
            continue
        for start in range(part.start, part.stop, chunk_rows):
            stop = min(start + chunk_rows, part.stop)
            yield Chunk((RowRange(part.fragment, part.file, start, stop),))
    if small:
        yield Chunk(tuple(small))


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
            yield RowRange(part.fragment, part.file, part.start, end.offset + 1)
            return
        yield part
