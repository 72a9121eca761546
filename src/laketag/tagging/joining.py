"""The column file of a fragment: what is staged for it and what it has of the same labels, row by row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from laketag.lake.columns import ColumnFile, write_verified
from laketag.lake.committing import delete_unused
from laketag.lake.dataset import open_dataset
from laketag.lake.location import Location
from laketag.lake.reading import RowRange, scan
from laketag.lake.session import many
from laketag.tagging.job import Job
from laketag.tagging.staging import OFFSET, Part, Reader, Staging

if TYPE_CHECKING:
    from laketag.lake.dataset import LanceDataset

# What is put together at a time bounds the memory, whatever the sizes of a fragment and of a label.
_MOST_ROWS, _LEAST_ROWS = 1 << 16, 1 << 10
_BYTES = 4 << 20
_TEXT = 32  # bytes of a value whose type does not tell

Made = dict[tuple[object, ...], ColumnFile]
"""Column files by the key of the fragment that they are for."""


@dataclass(frozen=True)
class StagedFragment:
    """A fragment that labels are staged for."""

    ranges: tuple[RowRange, ...]
    """From end to end, as each job sees it."""
    staged: tuple[tuple[Part, ...], ...]
    """For each job, where its labels lie, the older first."""
    label_files: tuple[str, ...]
    """The data files of the same labels that it has already; without any it has none."""

    @property
    def fragment(self) -> int:
        """Its id."""
        return self.ranges[0].fragment

    @property
    def key(self) -> tuple[object, ...]:
        """Tells one join from another: where the files of its old labels changed, the join is another."""
        sources = tuple(seen.source for seen in self.ranges)
        return (self.fragment, self.ranges[0].stop, sources, self.label_files)

    @property
    def parts(self) -> Iterator[Part]:
        """Where labels of all jobs lie."""
        return chain(*self.staged)


@dataclass(frozen=True)
class Joining:
    """Makes column files for a version of a dataset, in this process or, called, in another one."""

    location: Location
    version: int
    storage_version: str
    """The dataset's `data_storage_version`."""
    jobs: tuple[tuple[Job, Staging], ...]
    held: tuple[tuple[str, ...], ...]
    """For each job, the columns of the dataset to join the staged labels with."""

    def __call__(self, groups: Sequence[Sequence[StagedFragment]]) -> Made:
        """Make the files of some groups of neighbours; where one fails, none is left."""
        made: Made = {}
        join = partial(self.join, open_dataset(self.location, self.version), made)
        try:
            for _ in many(self.location, join, groups):
                pass
        except BaseException:
            delete_unused(self.location, made.values(), ())
            raise
        return made

    def join(self, dataset: LanceDataset, made: Made, group: Sequence[StagedFragment]) -> int:
        """Add the files of neighbours to those that are made; returns how many these are."""
        readers = [Reader(staging, job.columns.names) for job, staging in self.jobs]
        for place in group:
            batches = self._batches(dataset, place, readers)
            made[place.key] = write_verified(
                self.location, self.storage_version, self.columns, batches, rows=place.ranges[0].stop
            )
        return len(group)

    @cached_property
    def columns(self) -> pa.Schema:
        """What a file holds: all jobs' columns, without what is said of them."""
        return pa.schema([pa.field(c.name, c.type) for job, _ in self.jobs for c in job.columns])

    @cached_property
    def _step(self) -> int:
        """How many rows are put together at a time."""
        return max(_LEAST_ROWS, min(_MOST_ROWS, _BYTES // sum(map(_width, self.columns.types))))

    def _batches(
        self, dataset: LanceDataset, place: StagedFragment, readers: Sequence[Reader]
    ) -> Iterator[pa.RecordBatch]:
        end = place.ranges[0].stop
        for start in range(0, end, self._step):
            stop = min(start + self._step, end)
            columns: list[pa.Array] = []
            for number, (job, _) in enumerate(self.jobs):
                piece = replace(place.ranges[number], start=start, stop=stop)
                held = self.held[number] if place.label_files else ()
                here = [part for part in place.staged[number] if part.start < stop and start < part.stop]
                tables = chain(_old(dataset, piece, held), readers[number].tables(here))
                columns += _joined(tables, piece, job.columns)
            yield pa.record_batch(columns, schema=self.columns)


def _old(dataset: LanceDataset, piece: RowRange, held: Sequence[str]) -> Iterator[pa.Table]:
    """Give the labels that the dataset has of some rows."""
    for batch in scan(dataset, [piece], held) if held else ():
        offsets = pc.bit_wise_and(batch["_rowaddr"], pa.scalar(0xFFFFFFFF, pa.uint64())).cast(pa.uint32())
        yield pa.table({OFFSET: offsets, **{name: batch[name] for name in held}})


def _is_inside(offsets: pa.ChunkedArray, piece: RowRange) -> bool:
    return bool(piece.start <= offsets[0].as_py() and offsets[len(offsets) - 1].as_py() < piece.stop)


def _width(kind: pa.DataType) -> int:
    """Estimate the bytes of a value."""
    if pa.types.is_fixed_size_list(kind):
        return int(kind.list_size) * _width(kind.value_type)
    return max(1, kind.bit_width // 8) if pa.types.is_primitive(kind) else _TEXT


def _joined(tables: Iterator[pa.Table], piece: RowRange, columns: pa.Schema) -> list[pa.Array]:
    """Lay labels out by offset, null where there is none; a later table wins."""
    found = list(tables)
    length = piece.stop - piece.start
    # Offsets ascend in a staged file: all of them inside, and as many as there are rows, are every row.
    if len(found) == 1 and len(found[0]) == length and _is_inside(found[0][OFFSET], piece):
        return [found[0][column.name].combine_chunks() for column in columns]
    source: npt.NDArray[np.int64] = np.full(length, -1, np.int64)
    first = 0
    for table in found:
        at = table[OFFSET].to_numpy().astype(np.int64) - piece.start
        inside = (at >= 0) & (at < length)
        source[at[inside]] = first + np.flatnonzero(inside)
        first += len(at)
    indices = pa.array(source, mask=source < 0)
    arrays = []
    for column in columns:
        values = [chunk for table in found for chunk in table[column.name].chunks]
        taken = pa.concat_arrays(values).take(indices) if values else pa.nulls(length, column.type)
        arrays.append(taken)
    return arrays
