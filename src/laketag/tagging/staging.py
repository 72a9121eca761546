"""Staged labels: one small file per chunk and tagger, found again by source and rows."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from laketag.lake.location import Location
from laketag.lake.reading import RowRange, address
from laketag.lake.session import many
from laketag.lake.staged import LABEL_FILES, StagedFiles
from laketag.taggers.protocol import errors_of
from laketag.tagging.plan import Chunk, is_in_slice

T = TypeVar("T")

_PARTS = "laketag.parts"
_MOST_NEIGHBOURS = 64  # bounds what a reader keeps

LABELS = "tagged"
"""The work of a run that adds what is missing."""
AGAIN = "again"
"""The work of a `recompute`: labels made before do not count."""
ADOPTED = "adopted"
"""The work of `adopt`: labels of another program, with the digests of their inputs."""

OFFSET = "__offset_in_file__"  # a name that no label column may have


@dataclass(frozen=True, slots=True)
class Part:
    """The labels of one source's rows inside a staged file."""

    name: str
    """The staged file's, as `key of the task/key of the chunk.rows.age.version.lance`."""
    source: str
    """The data files that held what the labels were made from."""
    start: int
    """The first physical offset in it."""
    stop: int
    """One past the last."""
    first: int
    """Index of its first row in the staged file."""
    rows: int
    """How many rows it has there, in the order of their offsets."""
    failed: int
    """How many of them have a reason instead of labels."""

    def __reduce__(self) -> tuple[type[Part], tuple[str, str, int, int, int, int, int]]:
        """Pickle by the values alone, as `RowRange` does."""
        return Part, (self.name, self.source, self.start, self.stop, self.first, self.rows, self.failed)

    @property
    def is_whole(self) -> bool:
        """Whether the staged file holds nothing else."""
        return self.rows == _rows(self.name)

    @property
    def key(self) -> str:
        """The key of its chunk, which tells the slice."""
        return self.name.rsplit("/", 1)[-1].split(".")[0]

    @property
    def age(self) -> str:
        """Sorts the older first: of two labels of a row, the newer counts."""
        return self.name.split(".")[2]

    @property
    def version(self) -> int:
        """The dataset's version in which its rows lay there."""
        return int(self.name.split(".")[3])


@dataclass(frozen=True)
class Staging:
    """The staged labels of one job."""

    location: Location
    """The dataset's."""
    job: str
    """The job's digest."""
    work: str = LABELS
    """What kind of work it is; each counts only what it staged itself."""

    @property
    def files(self) -> StagedFiles:
        """The folder of staged labels."""
        return StagedFiles(self.location, f"{self.job}/{self.work}/{LABEL_FILES}")

    @property
    def attempts(self) -> StagedFiles:
        """The folder of attempt markers: chunks that were begun and are not staged yet."""
        return StagedFiles(self.location, f"{self.job}/{self.work}/attempts")

    def stage(
        self,
        chunk: Chunk,
        labels: pa.RecordBatch,
        addresses: npt.NDArray[np.int64],
        *,
        version: int,
        task: str = "",
        after: str = "",
    ) -> tuple[list[Part], int]:
        """Stage some rows of a chunk; returns what lies where, and the bytes written.

        Args:
            chunk: the rows' ranges.
            labels: label, error and digest columns (the last two), in the order of the addresses.
            addresses: row addresses, in the chunk's order.
            version: the dataset's version in which the rows lie there.
            task: the key of the task at hand, a folder of its own: what another attempt at it has staged is
                found without a look at what all others have.
            after: the age of other labels of these rows, which these outdate whatever the clocks say.
        """
        moment = max(time.time_ns(), int(after.partition("-")[0] or 0) + 1)
        age = f"{moment:020d}-{uuid.uuid4().hex[:12]}"
        name = f"{task or chunk.key}/{chunk.key}.{len(labels)}.{age}.{version}.lance"
        fragments, offsets, errors = addresses >> 32, addresses & 0xFFFFFFFF, errors_of(labels)
        parts, first = [], 0
        for part in chunk.ranges:
            rows = int(np.count_nonzero(fragments == part.fragment))
            if rows:
                start, stop = int(offsets[first]), int(offsets[first + rows - 1]) + 1
                failed = rows - errors.slice(first, rows).null_count
                parts.append(Part(name, part.source, start, stop, first, rows, failed))
                first += rows
        table = pa.Table.from_batches([labels]).replace_schema_metadata(None)
        table = pa.table(
            {OFFSET: pa.array(offsets, pa.uint32()), **{c: table[c] for c in table.column_names}}
        )
        described = json.dumps([[p.source, p.start, p.stop, p.first, p.rows, p.failed] for p in parts])
        return parts, self.files.write(name, table, {_PARTS: described})

    def parts(self, but: Collection[str] = (), task: str | None = None) -> list[Part]:
        """List what is staged, from the footers of the staged files.

        Args:
            but: files that are known.
            task: the key of the task whose staged files are asked for; all where None.
        """
        files = self.files
        there = files.names() if task is None else [f"{task}/{name}" for name in files.inner(task).names()]
        names = [name for name in there if name not in but]

        def read(name: str) -> list[Part]:
            try:
                described = files.metadata(name)[_PARTS]
            except (OSError, ValueError):
                if files.contains(name):
                    raise
                return []  # another slice has committed it meanwhile
            return [Part(name, *values) for values in json.loads(described)]

        return [part for parts in many(self.location, read, names) for part in parts]

    def rows_staged(self) -> int:
        """Count the rows staged so far, from the names alone."""
        return sum(_rows(name) for name in self.files.names())

    def begin(self, chunk: Chunk) -> str:
        """Leave a marker that a chunk was begun; returns its name."""
        name = f"{chunk.key}.{uuid.uuid4().hex[:12]}.lance"
        self.attempts.mark(name)
        return name

    def begun(self) -> dict[str, list[str]]:
        """List the markers of chunks that were begun and not ended, by the chunk's key."""
        markers: dict[str, list[str]] = {}
        for name in self.attempts.names():
            markers.setdefault(name.split(".")[0], []).append(name)
        return markers

    def end(self, names: Iterable[str]) -> None:
        """Take markers away: their chunk is staged."""
        self.attempts.delete(names)

    def clear(self, index: Index) -> None:
        """Delete what an index names: it is committed. What other slices stage meanwhile stays."""
        names = index.names
        self.files.delete(names)
        self.files.drop_folders(names)


@dataclass(frozen=True)
class Index:
    """Where staged labels lie."""

    by_source: Mapping[str, Sequence[Part]] = field(default_factory=dict)
    """Parts by source, in no order."""

    @classmethod
    def of(cls, parts: Iterable[Part]) -> Index:
        """Arrange parts by their source."""
        by_source: dict[str, list[Part]] = {}
        for part in parts:
            by_source.setdefault(part.source, []).append(part)
        return cls(by_source)

    def plus(self, parts: Iterable[Part]) -> Index:
        """Add parts."""
        return Index.of([*self.parts, *parts])

    @property
    def parts(self) -> list[Part]:
        """All parts."""
        return [part for parts in self.by_source.values() for part in parts]

    @property
    def newest(self) -> str:
        """The age of the newest part; nothing where there is none."""
        return max((part.age for part in self.parts), default="")

    @property
    def names(self) -> set[str]:
        """The staged files."""
        return {part.name for part in self.parts}

    def of_slice(self, part: tuple[int, int] | None) -> Index:
        """Keep what was staged for the chunks of a slice, so that slices do not commit each other's work."""
        return Index.of(one for one in self.parts if is_in_slice(one.key, part))

    def over(self, rows: RowRange) -> list[Part]:
        """List the parts that may hold rows of a range, the older first."""
        parts = self.by_source.get(rows.source, ())
        return sorted(
            (part for part in parts if part.start < rows.stop and rows.start < part.stop), key=lambda p: p.age
        )

    def within(self, ranges: Sequence[RowRange]) -> Index:
        """Keep only what concerns some ranges: all that a task needs to know."""
        return Index.of(dict.fromkeys(part for rows in ranges for part in self.over(rows)))


def staged_addresses(
    staging: Staging, index: Index, chunk: Chunk, *, but_failed: str | None = None
) -> npt.NDArray[np.int64]:
    """Read which rows of a chunk have staged labels, as row addresses in the version at hand.

    With the name of the error column as `but_failed`, rows that failed do not count.
    """
    columns = [] if but_failed is None else [but_failed]
    found = [np.empty(0, np.int64)]
    reader = Reader(staging, columns)
    for rows in chunk.ranges:
        for table in reader.tables(index.over(rows)):
            counted = table
            if but_failed is not None:
                counted = table.filter(table[but_failed].is_null())
            found.append(address(rows.fragment, 0) + counted[OFFSET].to_numpy().astype(np.int64))
    return np.unique(np.concatenate(found))


@dataclass(frozen=True)
class Reader:
    """Reads the staged labels of a job; a file that is asked for piece by piece is read only once."""

    staging: Staging
    columns: Sequence[str] | None = None
    """Which, with `OFFSET` beside them; all where None."""
    _kept: dict[str, pa.Table] = field(default_factory=dict, compare=False)
    _last: dict[str, pa.Table] = field(default_factory=dict, compare=False)

    def tables(self, parts: Iterable[Part]) -> Iterator[pa.Table]:
        """Read the labels of some parts, one by one."""
        for part in parts:
            kept = self._last if part.is_whole else self._kept
            if part.name not in kept:
                self._last.clear()  # a large fragment's files would fill the memory
                kept[part.name] = self._read(part.name)
            yield kept[part.name].slice(part.first, part.rows)

    def _read(self, name: str) -> pa.Table:
        return self.staging.files.read(name, None if self.columns is None else [OFFSET, *self.columns])


def neighbours(places: Iterable[T], parts_of: Callable[[T], Iterable[Part]]) -> Iterator[list[T]]:
    """Group places that follow each other and lie together in staged files, so that one reader reads them."""
    group: list[T] = []
    files: set[str] = set()
    for place in places:
        shared = {part.name for part in parts_of(place) if not part.is_whole}
        if group and (files.isdisjoint(shared) or len(group) >= _MOST_NEIGHBOURS):
            yield group
            group, files = [], set()
        group.append(place)
        files |= shared
    if group:
        yield group


def _rows(name: str) -> int:
    return int(name.split(".")[1])
