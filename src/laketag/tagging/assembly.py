"""From staged labels to column files: one per fragment, old labels and new ones joined."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from laketag.errors import CommitError, DatasetError
from laketag.lake.columns import ColumnFile, write_verified
from laketag.lake.committing import FragmentColumns, delete_unused
from laketag.lake.dataset import column_ids, open_dataset, path_of
from laketag.lake.location import Location
from laketag.lake.reading import RowRange, ranges_of, scan
from laketag.lake.session import many
from laketag.tagging.job import Job, columns_of_others, has_columns
from laketag.tagging.moving import follow
from laketag.tagging.plan import Chunk
from laketag.tagging.staging import LABELS, OFFSET, Index, Part, Reader, Staging, neighbours, staged_addresses

if TYPE_CHECKING:
    from laketag.lake.dataset import LanceDataset

# What is put together at a time bounds the driver's memory, whatever the sizes of a fragment and of a label.
_MOST_ROWS, _LEAST_ROWS = 1 << 16, 1 << 10
_BYTES = 4 << 20
_TEXT = 32  # bytes of a value whose type does not tell


@dataclass(frozen=True)
class StagedJob:
    """A job with what is staged for it."""

    job: Job
    staging: Staging
    index: Index
    followed: int = 0
    """The version up to which the index follows rows that others moved."""
    still: frozenset[int] = frozenset()
    """Versions that are known to have moved nothing."""


@dataclass
class Assembly:
    """Column files for the dataset as it is at each attempt to commit; what stays valid is kept."""

    location: Location
    jobs: Sequence[StagedJob]
    tell: Callable[[int, int], None]
    """Called with the fragments that have their file and all of them, now and then."""
    made: dict[tuple[object, ...], ColumnFile] = field(default_factory=dict)
    used: list[FragmentColumns] = field(default_factory=list)

    @property
    def columns(self) -> pa.Schema:
        """All jobs' columns, as they are committed."""
        return pa.schema([column for staged in self.jobs for column in staged.job.columns])

    def in_the_way(self, dataset: LanceDataset) -> list[str]:
        """List the columns of others that a recompute replaces."""
        return [
            name
            for one in self.jobs
            if one.staging.work != LABELS
            for name in columns_of_others(one.job, dataset.schema)
        ]

    def rows_without(self) -> int:
        """Count the rows that some job has no staged labels for; those that came later are not counted."""
        last = max(part.version for one in self.jobs for part in one.index.parts)
        try:
            dataset = open_dataset(self.location, last)
        except DatasetError:  # it was cleaned away
            dataset = open_dataset(self.location)
        lacking = 0
        for one in self.jobs:
            for rows in ranges_of(dataset, one.job.reads):
                staged = staged_addresses(one.staging, one.index, Chunk.of([rows]))
                for batch in scan(dataset, [rows], []):
                    lacking += int(np.count_nonzero(~np.isin(batch["_rowaddr"].to_numpy(), staged)))
        return lacking

    def check(self, dataset: LanceDataset) -> None:
        """Raise a `JobRefused` where another maker came first."""
        for one in self.jobs:
            has_columns(one.job, dataset.schema)

    def prepare(self, dataset: LanceDataset) -> list[FragmentColumns]:
        """Make a verified column file for every fragment that has staged labels.

        Raises:
            CommitError: a column that the labels are made from is gone.
        """
        self._check_inputs(dataset)
        # Others may have compacted since the labels were staged, and again since the last attempt.
        self.jobs = [
            replace(
                one,
                index=follow(dataset, one.job, one.staging, one.index, since=one.followed, still=one.still),
                followed=dataset.version,
            )
            for one in self.jobs
        ]
        by_job = [ranges_of(dataset, one.job.reads) for one in self.jobs]
        seen = [ranges for ranges in zip(*by_job, strict=True) if any(self._staged(ranges))]
        making = _Making(self, dataset, [_held(one.job, dataset) for one in self.jobs])
        groups = list(neighbours(seen, self._staged))
        self.used = []
        for units in many(self.location, making.files, groups):
            self.used += units
            self.tell(len(self.used), len(seen))
        return self.used

    def drop_unused(self) -> None:
        """Delete the column files of attempts that lost to another writer."""
        delete_unused(self.location, self.made.values(), self.used)

    def _check_inputs(self, dataset: LanceDataset) -> None:
        for one in self.jobs:
            gone = [name for name in one.job.reads if name not in dataset.schema.names]
            if gone:
                raise CommitError(
                    f"column {gone[0]!r}, which tagger {one.job.name!r} has read, is gone from version "
                    f"{dataset.version} of {self.location.uri}; its labels are staged: bring the column back "
                    "(rename-column where it was renamed, else `laketag restore`) and run the same command "
                    "again"
                )

    def _staged(self, ranges: Sequence[RowRange]) -> Iterator[Part]:
        for one, rows in zip(self.jobs, ranges, strict=True):
            yield from one.index.over(rows)


@dataclass
class _Making:
    """Column files in the making, for one version of the dataset."""

    assembly: Assembly
    dataset: LanceDataset
    held: Sequence[Sequence[str]]
    """For each job, the columns of the dataset to join the staged labels with."""
    label_files: Mapping[int, tuple[str, ...]] = field(init=False)
    """The data files of these columns, by fragment; where there are none, the columns are null."""

    def __post_init__(self) -> None:
        fields = set(column_ids(self.dataset, [name for names in self.held for name in names]))
        self.label_files = {
            each.fragment_id: tuple(
                path_of(file) for file in each.metadata.files if fields & set(file.fields)
            )
            for each in (self.dataset.get_fragments() if fields else ())
        }

    def files(self, group: Sequence[Sequence[RowRange]]) -> list[FragmentColumns]:
        """Make the files of neighbouring fragments, each given as every job sees it."""
        readers = [Reader(one.staging, one.job.columns.names) for one in self.assembly.jobs]
        return [FragmentColumns(ranges[0].fragment, self._file(ranges, readers)) for ranges in group]

    def _file(self, ranges: Sequence[RowRange], readers: Sequence[Reader]) -> ColumnFile:
        fragment, rows = ranges[0].fragment, ranges[0].stop
        # The old labels' files are part of the key: where they changed, the join is another.
        key = (fragment, rows, tuple(seen.source for seen in ranges), self.label_files.get(fragment, ()))
        made = self.assembly.made
        if key not in made:
            version, batches = self.dataset.data_storage_version, self._batches(ranges, readers)
            columns = self.assembly.columns
            made[key] = write_verified(self.assembly.location, version, columns, batches, rows=rows)
        return made[key]

    def _batches(self, ranges: Sequence[RowRange], readers: Sequence[Reader]) -> Iterator[pa.RecordBatch]:
        jobs = self.assembly.jobs
        bare = pa.schema([pa.field(column.name, column.type) for column in self.assembly.columns])
        step = max(_LEAST_ROWS, min(_MOST_ROWS, _BYTES // sum(map(_width, bare.types))))
        for start in range(0, ranges[0].stop, step):
            stop = min(start + step, ranges[0].stop)
            columns: list[pa.Array] = []
            for one, held, rows, reader in zip(jobs, self.held, ranges, readers, strict=True):
                piece = replace(rows, start=start, stop=stop)
                staged = reader.tables(one.index.over(piece))
                columns += _joined(chain(self._old(piece, held), staged), piece, one.job.columns)
            yield pa.record_batch(columns, schema=bare)

    def _old(self, piece: RowRange, held: Sequence[str]) -> Iterator[pa.Table]:
        """Give the labels that the dataset has of some rows."""
        if not held or not self.label_files[piece.fragment]:
            return
        for batch in scan(self.dataset, [piece], held):
            offsets = pc.bit_wise_and(batch["_rowaddr"], pa.scalar(0xFFFFFFFF, pa.uint64())).cast(pa.uint32())
            yield pa.table({OFFSET: offsets, **{name: batch[name] for name in held}})


def _held(job: Job, dataset: LanceDataset) -> list[str]:
    """List the job's columns where the dataset has labels of its own to join the staged ones with."""
    is_ours = not columns_of_others(job, dataset.schema)
    return [name for name in job.columns.names if name in dataset.schema.names] if is_ours else []


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
