"""From staged labels to column files: one per fragment, old labels and new ones joined."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from laketag.lake.columns import ColumnFile, verify_column_file, write_column_file
from laketag.lake.committing import FragmentColumns, delete_unused
from laketag.lake.dataset import field_id
from laketag.lake.location import Location
from laketag.lake.reading import RowRange, scan
from laketag.tagging.job import Job, has_columns
from laketag.tagging.moving import follow
from laketag.tagging.plan import ranges_of
from laketag.tagging.staging import OFFSET, Index, Staging, staged_labels

if TYPE_CHECKING:
    from laketag.lake.dataset import LanceDataset

# Rows of a fragment put together at a time: bounds the driver's memory, whatever the fragment's size.
_SLICE = 1 << 16
_THREADS = 4


@dataclass(frozen=True)
class StagedJob:
    """A job with what is staged for it."""

    job: Job
    staging: Staging
    index: Index


@dataclass
class Assembly:
    """Column files for the dataset as it is at each attempt to commit; what stays valid is kept."""

    location: Location
    image_column: str
    jobs: Sequence[StagedJob]
    made: dict[tuple[object, ...], ColumnFile] = field(default_factory=dict)
    used: list[FragmentColumns] = field(default_factory=list)

    @property
    def columns(self) -> pa.Schema:
        """All jobs' columns, as they are committed."""
        return pa.schema([column for staged in self.jobs for column in staged.job.columns])

    def prepare(self, dataset: LanceDataset) -> list[FragmentColumns]:
        """Make a verified column file for every fragment that has staged labels."""
        for one in self.jobs:
            has_columns(one.job, dataset.schema)  # another maker may have come first: it refuses then
        # Others may have compacted since the labels were staged, and again since the last attempt.
        self.jobs = [
            replace(one, index=follow(dataset, self.image_column, one.staging, one.index))
            for one in self.jobs
        ]
        ranges = [rows for rows in ranges_of(dataset, self.image_column) if self._parts(rows)]
        with ThreadPoolExecutor(_THREADS) as pool:
            files = list(pool.map(lambda rows: self._file(dataset, rows), ranges))
        self.used = [FragmentColumns(rows.fragment, file) for rows, file in zip(ranges, files, strict=True)]
        return self.used

    def drop_unused(self) -> None:
        """Delete the column files of attempts that lost to another writer."""
        delete_unused(self.location, self.made.values(), self.used)

    def _parts(self, rows: RowRange) -> bool:
        return any(staged.index.over(rows) for staged in self.jobs)

    def _file(self, dataset: LanceDataset, rows: RowRange) -> ColumnFile:
        # The old labels' files are part of the key: where they changed, the join is another.
        old = _label_files(dataset, rows.fragment, self.columns.names)
        key = (rows.fragment, rows.file, rows.stop, old)
        if key not in self.made:
            batches = self._batches(dataset, rows)
            file = write_column_file(self.location, dataset.data_storage_version, self.columns, batches)
            verify_column_file(self.location, file, self.columns, rows.stop)
            self.made[key] = file
        return self.made[key]

    def _batches(self, dataset: LanceDataset, rows: RowRange) -> Iterator[pa.RecordBatch]:
        bare = pa.schema([pa.field(column.name, column.type) for column in self.columns])
        for start in range(rows.start, rows.stop, _SLICE):
            piece = RowRange(rows.fragment, rows.file, start, min(start + _SLICE, rows.stop))
            columns: list[pa.Array] = []
            for staged in self.jobs:
                columns += _joined(_labels(dataset, staged, piece), piece, staged.job.columns)
            yield pa.record_batch(columns, schema=bare)


def _labels(dataset: LanceDataset, staged: StagedJob, piece: RowRange) -> Iterator[pa.Table]:
    """Give the labels of some rows, the older first: those of the dataset, then those staged."""
    names = staged.job.columns.names
    if set(names) <= set(dataset.schema.names):
        for batch in scan(dataset, [piece], names):
            offsets = pc.bit_wise_and(batch["_rowaddr"], pa.scalar(0xFFFFFFFF, pa.uint64())).cast(pa.uint32())
            yield pa.table({OFFSET: offsets, **{name: batch[name] for name in names}})
    yield from staged_labels(staged.staging, staged.index.over(piece), names)


def _joined(tables: Iterator[pa.Table], piece: RowRange, columns: pa.Schema) -> list[pa.Array]:
    """Lay labels out by offset, null where there is none; a later table wins."""
    found = list(tables)
    length = piece.stop - piece.start
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


def _label_files(dataset: LanceDataset, fragment: int, names: Sequence[str]) -> tuple[str, ...]:
    known = dataset.lance_schema
    fields = {field_id(known, name) for name in names if name in dataset.schema.names}
    found: Any = dataset.get_fragment(fragment)
    return tuple(str(file.path) for file in found.metadata.files if fields & set(file.fields))
