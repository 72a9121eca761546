"""What goes to a worker and what comes back: a task, the rows of it that lack labels, and what was done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from laketag.lake.reading import RowRange
from laketag.taggers.rows import Stats
from laketag.tagging.plan import Chunk
from laketag.tagging.staging import Index, Part

Addresses = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Task:
    """Neighbouring chunks, with what is known of them already."""

    chunks: tuple[Chunk, ...]
    """In the dataset's order."""
    sources: tuple[Mapping[int, str], ...]
    """For each job, the source of each fragment: the data files of the columns that it reads."""
    suspects: tuple[frozenset[int], ...]
    """For each job, the fragments whose labels count only where the inputs have the label's digest."""
    staged: tuple[Index, ...] = ()
    """For each job, the staged parts that may hold rows of these chunks."""

    @property
    def key(self) -> str:
        """Its name: that of its first chunk."""
        return self.chunks[0].key

    @property
    def fragments(self) -> frozenset[int]:
        """The fragments that it has rows of."""
        return frozenset(rows.fragment for chunk in self.chunks for rows in chunk.ranges)

    def chunk_of(self, job: int, chunk: Chunk) -> Chunk:
        """Give a chunk as a job sees it."""
        return chunk.read_from(self.sources[job])

    def ranges_of(self, job: int) -> list[RowRange]:
        """List the rows of all chunks as a job sees them."""
        return [rows for chunk in self.chunks for rows in self.chunk_of(job, chunk).ranges]


@dataclass(frozen=True)
class Done:
    """What a worker says of a task: where labels lie, and what it cost. Never the labels themselves."""

    parts: tuple[tuple[Part, ...], ...]
    """For each job, what was staged, by an attempt that died as well."""
    fragments: frozenset[int]
    """The task's."""
    is_whole: bool = True
    """False where the worker was told to stop: rows of the task may lack labels."""
    seen: int = 0
    """Rows of the task that the run selects."""
    computed: int = 0
    """Rows that a tagger was run on and whose labels are staged, by an attempt that died as well."""
    bytes_read: int = 0
    """From the dataset."""
    bytes_written: int = 0
    """Of staged files."""
    stats: Stats = field(default_factory=Stats)
    """Where its time went."""
    errors: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Rows that failed, by tagger and reason."""


@dataclass(frozen=True)
class Wanted:
    """The rows of a chunk that lack labels, and those whose labels may be stale."""

    addresses: Addresses
    """Row addresses that some job wants, in order."""
    by_job: tuple[npt.NDArray[np.bool_], ...]
    """For each job, whether it wants the row."""
    digests: tuple[pa.Array, ...]
    """For each job, the digest with which its label is still right; null where it has none."""
    is_all: bool
    """Whether these are all live rows of the chunk, so that it can be read as a range."""

    @property
    def is_plain(self) -> bool:
        """Whether every job wants every row, whatever its image is."""
        return all(mask.all() for mask in self.by_job) and all(d.null_count == len(d) for d in self.digests)

    def part(self, start: int, stop: int) -> Wanted:
        """Give some of the rows, by their place among these."""
        masks = tuple(mask[start:stop] for mask in self.by_job)
        digests = tuple(column[start:stop] for column in self.digests)
        return Wanted(self.addresses[start:stop], masks, digests, is_all=False)
